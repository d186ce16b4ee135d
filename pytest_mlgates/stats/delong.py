"""The area under the ROC curve with DeLong's variance, in O(n log n)."""

from __future__ import annotations

import math

import numpy as np

from pytest_mlgates.stats.arrays import Bools, Floats, NotEnough
from pytest_mlgates.stats.interval import Measured


def placements(positive: Bools, score: Floats) -> tuple[float, Floats]:
    """Return the AUC and each row's placement.

    Parameters
    ----------
    positive : ndarray, shape (n,), bool
    score : ndarray, shape (n,), finite; higher means more likely positive

    Returns
    -------
    auc : float
        Share of (positive, negative) pairs in the right order, ties counted half.
    placement : ndarray, shape (n,)
        For a positive row the share of negatives scored below it, for a negative row the share of positives scored
        above it.

    Raises
    ------
    NotEnough
        One class only.

    Notes
    -----
    DeLong, DeLong and Clarke-Pearson (1988), structural components V10 and V01; by ranks as in Sun and Xu, "Fast
    implementation of DeLong's algorithm" (2014).
    """
    m = int(np.count_nonzero(positive))
    k = positive.size - m
    if m == 0 or k == 0:
        raise NotEnough(f"AUC needs both classes, got {m:,} positive and {k:,} negative rows")
    # arrays are let go as soon as they are used: at a million rows this function decides the peak memory of gate 1
    order = np.argsort(score)
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the end of each run of equal scores
    del ordered
    hit = positive[order]
    up_to = np.cumsum(hit, dtype=np.int64)[last]
    sizes = np.diff(last, prepend=-1)
    before = np.concatenate(([0], up_to[:-1]))
    # per group of tied scores: negatives below and positives above, tied ones half
    below = 2.0 * last + 2 - sizes
    del last
    tied = up_to + before
    del up_to, before
    below -= tied
    below /= 2.0 * k
    above = 1.0 - tied / (2.0 * m)
    del tied
    if sizes.size < score.size:
        below, above = np.repeat(below, sizes), np.repeat(above, sizes)
    del sizes
    np.copyto(above, below, where=hit)
    del below
    placement = np.empty(score.size)
    placement[order] = above
    return float(placement[positive].mean()), placement


def auc_difference(positive: Bools, candidate: Floats, baseline: Floats, ratio: float = 1.0) -> Measured:
    """Return AUC(candidate) - ratio x AUC(baseline) with DeLong's paired standard error.

    Parameters
    ----------
    positive : ndarray, shape (n,), bool
    candidate, baseline : ndarray, shape (n,), scores of the same rows
    ratio
        1 gives the plain difference of DeLong's test.
    """
    auc_c, place_c = placements(positive, candidate)
    auc_b, place_b = placements(positive, baseline)
    return from_placements(positive, auc_c - ratio * auc_b, place_c - ratio * place_b)


def auc(positive: Bools, score: Floats) -> Measured:
    """Return the AUC with DeLong's standard error."""
    value, placement = placements(positive, score)
    return from_placements(positive, value, placement)


def from_placements(positive: Bools, value: float, placement: Floats) -> Measured:
    """Return the estimate whose variance is S10/m + S01/k over (combined) placements.

    The degrees of freedom are those of the smaller class, so that few positives widen the interval.

    Raises
    ------
    NotEnough
        Fewer than two rows of a class.
    """
    ours, others = placement[positive], placement[~positive]
    if min(ours.size, others.size) < 2:
        raise NotEnough(f"AUC needs two rows of each class, got {ours.size:,} positive and {others.size:,} negative")
    variance = float(ours.var(ddof=1)) / ours.size + float(others.var(ddof=1)) / others.size
    return Measured(value, variance**0.5, positive.size, min(ours.size, others.size) - 1, "AUC, DeLong")


def influence(positive: Bools, score: Floats) -> tuple[float, Floats, float]:
    """Return the AUC, its influence values (mean zero) and its degrees of freedom.

    They are scaled so that sum(influence²) / (n (n - 1)) is DeLong's variance exactly, also for linear combinations
    over the same rows.

    Raises
    ------
    NotEnough
        Fewer than two rows of a class.
    """
    value, placement = placements(positive, score)
    n, m = positive.size, int(np.count_nonzero(positive))
    k = n - m
    if min(m, k) < 2:
        raise NotEnough(f"AUC needs two rows of each class, got {m:,} positive and {k:,} negative")
    scale_m = math.sqrt(n * (n - 1) / (m * (m - 1)))
    scale_k = math.sqrt(n * (n - 1) / (k * (k - 1)))
    return value, (placement - value) * np.where(positive, scale_m, scale_k), min(m, k) - 1
