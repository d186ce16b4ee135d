"""An e-value for two models watched side by side: evidence that may be looked at as often as one likes.

The wealth is that of two gamblers who start with 1 together. Once a block of days they stake on the candidate: one on the number
of days that it wins, whatever the sizes, the other on its share of the block's differences. Both bets are odd functions of the
block's differences, so each is fair where these are symmetric about 0, and the wealth of both together is an e-value
(Waudby-Smith and Ramdas 2024, sections 3 and 4). The first finds a steady winner under any tails, the second is the quicker one
where better days are also the larger ones.

Losses that are correlated from day to day make bets that look fair lose their fairness: what the last block began the next goes
on with. Therefore both stakes are cut by the autocorrelation that the days so far have shown. A stake may depend on the past
in any way; with independent days the bound holds as before.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.stats import arrays

BLOCK = 3
"""Days that make one bet: fewer err under autocorrelation before it has been seen, more wait longer."""
WINS_SHARE = 0.85
"""What the gambler on wins starts with; the other has the rest. Most of it, because only that one bears any tails."""
WIN_RATE = 0.59
"""The candidate's share of won days that the gambler on wins reckons with: a little below 0.6, the smallest that is to be found within
a year, since the smaller stake finds more of those in time; below 0.58 one that wins 70 % waits too long."""
SIZE_STAKE = 0.5
"""What the gambler on sizes stakes of what it has."""
_CUT = 6.0
_HARMLESS = 0.04
_LEAST = 0.3
_PRIOR = 50.0


@dataclasses.dataclass(frozen=True, slots=True)
class EValue:
    """Wealth of gamblers who start with 1 and bet that the candidate is the better one.

    Attributes
    ----------
    value
        Wealth after the last complete block.
    best
        The largest so far, which may be compared with 1 / error at any time (Ville's inequality).
    path
        Wealth after each complete block, oldest first.
    n
        Paired losses that it rests on.
    """

    value: float
    best: float
    path: tuple[float, ...]
    n: int


def e_value(candidate_loss: Any, champion_loss: Any, *, block: int = BLOCK) -> EValue:
    """Return the e-value of "the candidate's losses are the smaller ones", from losses on the same days in their order.

    Parameters
    ----------
    candidate_loss, champion_loss : array-like, shape (n,), at least 0
        Loss of each on the same rows, one value a day (or batch), oldest first.
    block
        Days that make one bet; 1 is right only where days are known to be independent.

    Returns
    -------
    EValue
        ``best >= 20`` holds the chance of ever preferring a candidate that is no better at 5 %, however often one looks.

    Raises
    ------
    DataUnusable
        NaN, infinite or negative losses, differing lengths.
    ConfigError
        A block of less than one day.

    Notes
    -----
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2024): see `wealth`. Simulated error
    rates, also under autocorrelation: ``benchmarks/challenger_error_rates.py``.

    Examples
    --------
    >>> found = e_value([1.0] * 70, [2.0] * 70)
    >>> found.n, found.best > 20
    (70, True)
    >>> e_value([1.0, 2.0] * 35, [2.0, 1.0] * 35).best < 20
    True
    """
    if block < 1:
        raise ConfigError(f"block is {block!r}, expected at least 1 day to a bet")
    ours, theirs = arrays.finite("candidate_loss", candidate_loss), arrays.finite("champion_loss", champion_loss)
    arrays.same_length(candidate_loss=ours, champion_loss=theirs)
    if min(float(ours.min()), float(theirs.min())) < 0:
        raise DataUnusable("losses are negative, expected at least 0: hand in errors, not scores")
    total = ours + theirs
    gap = np.divide(theirs - ours, total, out=np.zeros_like(total), where=total > 0)
    whole = gap[: gap.size // block * block].reshape(-1, block)
    path = tuple(wealth(row.tolist() for row in whole))
    return EValue(path[-1] if path else 1.0, max((1.0, *path)), path, int(ours.size))


def wealth(blocks: Iterable[Sequence[float]]) -> Iterator[float]:
    """Yield the wealth after each block of differences (champion's loss less candidate's), oldest first.

    Two gamblers start with 0.85 and 0.15. With k the won less the lost days of a block and d its differences, a block multiplies
    the first by ``1 + c · tanh(k/2 · log(0.59/0.41))``, which is the likelihood ratio of a win rate of 0.59 made odd, and the second
    by ``1 + c · 0.5 · Σd/Σ|d|``. The caution c, between 0.3 and 1, is taken before the block: ``1 − 6 · (r − 0.04)`` with r the
    autocorrelation of wins and losses so far, shrunk to 0 by 50 days.
    """
    of_wins, of_sizes = WINS_SHARE, 1.0 - WINS_SHARE
    past = _Past()
    for block in blocks:
        caution = past.caution()
        won = [int(d > 0) - int(d < 0) for d in block]
        of_wins *= 1.0 + caution * wins_bet(won)
        of_sizes *= 1.0 + caution * SIZE_STAKE * sizes_bet(block)
        past.add(won)
        yield of_wins + of_sizes


def wins_bet(won: Sequence[int]) -> float:
    """Bet on the signs of a block's differences, in (-1, 1)."""
    return math.tanh(0.5 * sum(won) * math.log(WIN_RATE / (1.0 - WIN_RATE)))


def sizes_bet(differences: Sequence[float]) -> float:
    """Bet on the sizes of a block's differences, ``Σd / Σ|d|`` in [-1, 1]; 0 where all are 0."""
    size = sum(abs(d) for d in differences)
    return max(-1.0, min(1.0, sum(differences) / size)) if size > 0 else 0.0


class _Past:
    """Wins (1), losses (-1) and ties (0) of the days so far, in sums."""

    def __init__(self) -> None:
        self._n = self._sum = self._squares = self._products = 0
        self._first = self._last = 0

    def add(self, signs: Iterable[int]) -> None:
        for sign in signs:
            self._first = self._first if self._n else sign
            self._products += self._last * sign
            self._n, self._sum, self._squares, self._last = self._n + 1, self._sum + sign, self._squares + sign * sign, sign

    def caution(self) -> float:
        """Which part of the full stake their autocorrelation allows, in [0.3, 1]."""
        if self._n < 2:
            return 1.0
        mean = self._sum / self._n
        spread = self._squares - self._n * mean**2
        together = self._products - mean * (2 * self._sum - self._first - self._last) + (self._n - 1) * mean**2
        return max(_LEAST, min(1.0, 1.0 - _CUT * (together / (spread + _PRIOR) - _HARMLESS)))
