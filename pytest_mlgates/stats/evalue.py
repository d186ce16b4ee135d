"""An e-value for two models watched side by side: evidence that may be looked at as often as one likes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.stats import arrays

CLIP = 0.5
STAKES = (0.1, 0.25, 0.45, 0.65, 0.85, 0.95)


@dataclasses.dataclass(frozen=True, slots=True)
class EValue:
    """Wealth of a gambler who starts with 1 and bets that the candidate is the better one.

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


def e_value(candidate_loss: Any, champion_loss: Any, *, block: int = 7) -> EValue:
    """Return the e-value of "the candidate's losses are the smaller ones", from losses on the same days in their order.

    Parameters
    ----------
    candidate_loss, champion_loss : array-like, shape (n,), at least 0
        Loss of each on the same rows, one value a day (or batch), oldest first.
    block
        Days that make one bet. Daily losses are correlated from day to day, which a daily bet takes for skill; 1 is right
        only for independent ones.

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
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2024), section 4: the wealth is the
    mean over gamblers with a fixed stake each, of Π (1 + stake · x) over blocks, where x = `block_outcome` is in [-1, 1] and
    has mean zero when the differences are symmetric about zero.

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
    path = tuple(wealth(block_outcome(row.tolist()) for row in whole))
    return EValue(path[-1] if path else 1.0, max((1.0, *path)), path, int(ours.size))


def wealth(outcomes: Iterable[float]) -> Iterable[float]:
    """Yield the wealth after each outcome in [-1, 1]: the mean over gamblers who stake a fixed share of what they have."""
    purses = [1.0] * len(STAKES)
    for outcome in outcomes:
        purses = [purse * (1.0 + stake * outcome) for purse, stake in zip(purses, STAKES, strict=True)]
        yield sum(purses) / len(purses)


def block_outcome(differences: Sequence[float]) -> float:
    """One block as one number in [-1, 1]: ``clip(Σd / (0.5 Σ|d|))``; 0 where all differences are 0."""
    size = CLIP * sum(abs(d) for d in differences)
    return max(-1.0, min(1.0, sum(differences) / size)) if size > 0 else 0.0
