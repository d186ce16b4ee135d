"""May a canary take more traffic? What each version answered, and the rule; pure.

A canary goes 5 → 50 → 100 %. At each step it must have answered enough requests; it is stopped as soon as its errors, its slow
answers or the
mean of its predictions leave what is allowed with a bound, not with a point estimate: three slow answers out of ten prove nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_mlgates.errors import EndpointError

STEPS = (5.0, 50.0, 100.0)
_EDGES_MS = tuple(0.25 * 1.25**i for i in range(56))  # 0.25 ms to 53 s in steps of a quarter


@dataclasses.dataclass(slots=True)
class VersionStats:
    """Answers of one version: counts, latency histogram, sums of the predictions."""

    calls: int = 0
    errors: int = 0
    predictions: int = 0
    total: float = 0.0
    squares: float = 0.0
    histogram: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(_EDGES_MS) + 1))

    def answered(self, predictions: Iterable[Any], latency_ms: float) -> None:
        """Count one right answer."""
        self.calls += 1
        self.histogram[bisect_left(_EDGES_MS, latency_ms)] += 1
        for value in predictions:
            if value.__class__ is float or value.__class__ is int:
                self.predictions += 1
                self.total += value
                self.squares += value * value

    def failed(self) -> None:
        """Count one request that the model could not answer."""
        self.calls += 1
        self.errors += 1

    def over(self, objective_ms: float) -> int:
        """Answers that took longer than the objective, to the histogram's resolution (a quarter), rounded towards fewer."""
        return sum(self.histogram[bisect_left(_EDGES_MS, objective_ms) + 1 :])

    @property
    def mean(self) -> float:
        """Mean prediction; NaN before the first."""
        return self.total / self.predictions if self.predictions else math.nan

    @property
    def variance(self) -> float:
        """Variance of the predictions; NaN before the second."""
        if self.predictions < 2:
            return math.nan
        return max(self.squares - self.total**2 / self.predictions, 0.0) / (self.predictions - 1)

    def __add__(self, other: VersionStats) -> VersionStats:
        return VersionStats(
            self.calls + other.calls,
            self.errors + other.errors,
            self.predictions + other.predictions,
            self.total + other.total,
            self.squares + other.squares,
            [a + b for a, b in zip(self.histogram, other.histogram, strict=True)],
        )

    def __sub__(self, other: VersionStats) -> VersionStats:
        return VersionStats(
            self.calls - other.calls,
            self.errors - other.errors,
            self.predictions - other.predictions,
            self.total - other.total,
            self.squares - other.squares,
            [a - b for a, b in zip(self.histogram, other.histogram, strict=True)],
        )


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryLimits:
    """What a canary must keep.

    Attributes
    ----------
    min_calls
        Answers per step before the next.
    max_error_share
        Share of requests that may fail.
    objective_ms
        At most 1 % of the answers may take longer.
    max_mean_shift
        Largest shift of the mean prediction against the champion's, in standard deviations of the champion's predictions.
    alpha
        One-sided error of each bound.
    """

    min_calls: int = 200
    max_error_share: float = 0.01
    objective_ms: float = 200.0
    max_mean_shift: float = 0.5
    alpha: float = 0.001


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """``go``, ``wait`` or ``stop``, and why."""

    action: str
    reason: str


def decide(canary: VersionStats, champion: VersionStats, limits: CanaryLimits) -> Decision:
    """Say whether a canary may go on.

    Notes
    -----
    Shares: lower Clopper-Pearson bound above the limit stops. Mean: the shift's lower bound (Welch's standard error, normal
    quantile at alpha) above the limit stops.
    """
    from pytest_mlgates.stats.proportions import share_bounds  # scipy.stats: a server that runs no canary need not wait for it

    if canary.calls:
        low, _ = share_bounds(canary.errors, canary.calls, 1 - limits.alpha)
        if low > limits.max_error_share:
            return Decision("stop", f"{canary.errors} of {canary.calls} requests failed (allowed {limits.max_error_share:.1%})")
        slow = canary.over(limits.objective_ms)
        low, _ = share_bounds(slow, canary.calls, 1 - limits.alpha)
        if low > 0.01:
            return Decision("stop", f"{slow} of {canary.calls} answers took over {limits.objective_ms:g} ms (p99 objective)")
    shift = _shift(canary, champion, limits.alpha)
    if shift is not None and shift[1] > limits.max_mean_shift:
        return Decision(
            "stop", f"mean prediction shifted by {shift[0]:.2f} standard deviations (allowed {limits.max_mean_shift:g})"
        )
    if canary.calls < limits.min_calls:
        return Decision("wait", f"{canary.calls} of {limits.min_calls} requests")
    return Decision("go", f"{canary.calls} requests, {canary.errors} errors")


def _shift(canary: VersionStats, champion: VersionStats, alpha: float) -> tuple[float, float] | None:
    """Shift of the mean in the champion's standard deviations, and its lower bound; ``None`` where it cannot be judged yet."""
    if canary.predictions < 30 or champion.predictions < 30:
        return None
    if not champion.variance > 1e-12 * champion.mean**2:  # constant answers, but for rounding: no scale to measure a shift by
        return None
    from scipy.special import ndtri

    sd = math.sqrt(champion.variance)
    gap = abs(canary.mean - champion.mean) / sd
    se = math.sqrt(canary.variance / canary.predictions + champion.variance / champion.predictions) / sd
    return gap, gap - float(ndtri(1 - alpha)) * se


def check_steps(steps: Sequence[float]) -> None:
    """Raise EndpointError unless the shares rise, from above 0 to 100 %."""
    if not steps or steps[-1] != 100 or steps[0] <= 0 or any(b <= a for a, b in itertools.pairwise(steps)):
        listed = ", ".join(f"{s:g}" for s in steps) or "none"
        raise EndpointError(f"the canary's steps are {listed}; expected shares in percent that rise to 100, such as 5, 50, 100")


def since(
    before: Mapping[int, Mapping[str, VersionStats]], now: Mapping[int, Mapping[str, VersionStats]], version: str
) -> VersionStats:
    """What the workers that live now have answered with a version since ``before``; a worker that died takes its counts along."""
    none = VersionStats()
    gained = (stats.get(version, none) - before.get(worker, {}).get(version, none) for worker, stats in now.items())
    return sum(gained, start=none)


def merged(parts: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, VersionStats]:
    """Add up what the workers wrote: a list of ``{version: stats}``."""
    out: dict[str, VersionStats] = {}
    for part in parts:
        for version, stats in part.items():
            out[version] = out.get(version, VersionStats()) + VersionStats(**stats)
    return out
