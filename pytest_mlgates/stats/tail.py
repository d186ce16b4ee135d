"""The share of calls over a latency objective, bounded against the share that a percentile allows, also when slow calls come in runs."""

from __future__ import annotations

import dataclasses

import numpy as np

from pytest_mlgates.stats.arrays import Bools, Floats
from pytest_mlgates.stats.proportions import share_bounds

LOOKS = (1_000, 2_000, 4_000, 8_000, 16_000)
FEWEST_CALLS = 299  # 0.99**299 < 0.05: with fewer, no outcome shows that a p99 holds
_GAP = 3  # slow calls at most this many calls apart belong to one run
_UNSEEN = 9.0  # design effect taken for granted until runs can be measured, unless calls keep well away from the objective
_RUNS = 5  # runs from which their mean length is believed
_HEADROOM = (2.5, 4.0)  # distance from the objective, as a factor, with no and with one slow call seen


def planned_looks(calls: int, max_calls: int) -> list[int]:
    """Calls after which the measurement is looked at: ``calls``, and twice as many each time up to ``max_calls``, at most five."""
    return [n for n in (calls << i for i in range(len(LOOKS))) if n <= max(max_calls, calls)]


@dataclasses.dataclass(frozen=True, slots=True)
class TailShare:
    """Share of calls over the objective, with one-sided bounds.

    ``pass_effect`` and ``fail_effect`` are the design effects (rows per independent row) behind the upper and the lower
    bound; ``runs`` is the number of runs of slow calls.
    """

    share: float
    low: float
    high: float
    calls: int
    over: int
    runs: int
    pass_effect: float
    fail_effect: float


def tail_share(
    seconds: Floats,
    objective: float,
    *,
    failed: Bools | None = None,
    concurrency: int = 1,
    alpha: float = 0.01,
    q: float = 0.99,
) -> TailShare:
    """Bound the share of calls that took longer than ``objective`` or failed.

    Parameters
    ----------
    seconds : ndarray, shape (n,), in order of the calls, seconds
    objective
        Seconds.
    failed : ndarray, shape (n,), bool
        Calls that errored; they count as over the objective.
    concurrency
        Calls in flight at once: one stall makes that many slow.
    alpha
        Of each one-sided bound at this look.
    q
        The percentile, as a share.

    Notes
    -----
    Clopper-Pearson bounds on counts divided by a design effect (Kish 1965 for the name): the variance inflation
    (1 + r)/(1 - r) of a two-state Markov chain, whose lag-one correlation is r = 1 - 1/L - 1/M for slow runs of mean
    length L with M fast calls between them. Rare slow calls give 2L - 1; a model that is always slow gives 1, since calls
    that never change say nothing of runs. Runs that were not seen cannot be measured: until five runs were seen, the upper
    bound takes an effect of nine, except where the calls keep their distance from the objective at this percentile (`_HEADROOM`).
    """
    slow = seconds > objective
    if failed is not None:
        slow = slow | failed
    calls, over = slow.size, int(np.count_nonzero(slow))
    where = np.flatnonzero(slow)
    runs = int(np.count_nonzero(np.diff(where) > _GAP)) + 1 if over else 0
    measured = _inflation(over, calls - over, runs)
    fail_effect = max(measured, float(concurrency) if over > runs else 1.0)
    far = over <= 1 and float(np.quantile(seconds, q)) * _HEADROOM[over] <= objective
    unseen = 1.0 if far or runs >= _RUNS else _UNSEEN
    pass_effect = max(measured, unseen, float(concurrency) if over > runs or concurrency > 1 else 1.0)
    low = share_bounds(over / fail_effect, calls / fail_effect, 1 - alpha)[0]
    high = share_bounds(over / pass_effect, calls / pass_effect, 1 - alpha)[1]
    share = over / calls
    return TailShare(share, min(low, share), max(high, share), calls, over, runs, pass_effect, fail_effect)


def _inflation(slow: int, fast: int, runs: int) -> float:
    """Variance inflation of a share whose slow calls came in ``runs`` runs."""
    if not slow or not fast:
        return 1.0
    correlation = max(0.0, 1.0 - runs / slow - runs / fast)
    return (1.0 + correlation) / (1.0 - correlation)
