"""How a model treats groups: parity ratio, equal opportunity, equalized odds, error ratio, with bounds over all groups."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.stats import arrays
from pytest_mlgates.stats.arrays import Bools, Floats, Ints, NotEnough
from pytest_mlgates.stats.interval import skew_bound, t_quantile, z_quantile


@dataclasses.dataclass(frozen=True, slots=True)
class GroupTable:
    """Counts of one attribute's groups: rows, selected, actually positive, and both; groups in sorted order."""

    names: tuple[str, ...]
    rows: Ints
    selected: Ints
    positives: Ints
    true_positives: Ints

    @property
    def negatives(self) -> Ints:
        """Rows that are actually negative, per group."""
        return self.rows - self.positives

    @property
    def false_positives(self) -> Ints:
        """Selected rows that are actually negative, per group."""
        return self.selected - self.true_positives


@dataclasses.dataclass(frozen=True, slots=True)
class Worst:
    """The worst pair of groups on some scale.

    ``low`` and ``high`` are one-sided bounds of the worst value over all pairs; ``groups`` are (worse, better).
    """

    value: float
    low: float
    high: float
    groups: tuple[str, str]


def named_columns(values: Any, what: str) -> dict[str, Any]:
    """Return columns by name from a frame, a mapping, a series or an array; empty for ``None``."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return {str(name): column for name, column in values.items()}
    if hasattr(values, "columns"):
        return {str(name): values[name] for name in values.columns}
    array = arrays.raw(what, values)
    if array.ndim == 2:
        return {f"{what} {i + 1}": array[:, i] for i in range(array.shape[1])}
    return {str(getattr(values, "name", None) or what): array}


def group_codes(values: Any) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """Return sorted group names and each row's code; -1 where the value is missing."""
    import pandas as pd

    try:
        codes, uniques = pd.factorize(pd.Series(values).reset_index(drop=True), use_na_sentinel=True)
    except (TypeError, ValueError) as error:
        raise DataUnusable(f"groups cannot be told apart: {error}; expected a name or a number per row") from error
    names = [str(u) for u in uniques]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names) + 1, dtype=np.intp)
    rank[order] = np.arange(len(names))
    rank[-1] = -1
    return tuple(names[i] for i in order), rank[codes]


def group_table(names: tuple[str, ...], codes: npt.NDArray[np.intp], actual: Bools, selected: Bools) -> GroupTable:
    """Count rows per group; rows with code -1 are left out."""
    size = len(names)
    # one pass: each row falls in one of four cells of its group, the missing in the last
    cell = (np.where(codes < 0, size, codes) * 4 + selected * 2 + actual).astype(np.intp)
    counts = np.bincount(cell, minlength=4 * (size + 1))[: 4 * size].reshape(size, 4)
    rows = counts.sum(axis=1)
    return GroupTable(names, rows, counts[:, 2] + counts[:, 3], counts[:, 1] + counts[:, 3], counts[:, 3])


def parity_ratio(table: GroupTable, confidence: float = 0.95, near_only: bool = False) -> Worst:
    """Return the demographic-parity ratio: smallest selection rate over largest.

    Parameters
    ----------
    table
        At least two groups with rows.
    confidence
        Of each one-sided bound.
    near_only
        Allow for the pairs that may be the worst only, not for all: an interval, where the gate wants a guarantee.

    Raises
    ------
    NotEnough
        Fewer than two groups, or nobody is selected at all, or everybody.

    Notes
    -----
    Katz's log ratio with +0.5 for every pair of groups. The lower bound is the smallest over pairs, uncorrected: it
    clears a threshold only when every pair does (intersection-union, Berger 1982). The upper bound is the smallest over
    pairs, each at the level divided by the number of pairs (Bonferroni).
    """
    if len(table.names) < 2:
        raise NotEnough(f"parity needs at least two groups, got {len(table.names)}")
    if int(table.selected.sum()) == 0:
        raise NotEnough("parity is undefined: nobody is selected in any group")
    if np.array_equal(table.selected, table.rows):
        raise NotEnough("parity says nothing: everybody is selected in every group")
    rates = table.selected / table.rows
    logs = np.log((table.selected + 0.5) / (table.rows + 0.5))
    variances = 1 / (table.selected + 0.5) - 1 / (table.rows + 0.5)
    # a group that is selected whole is not certain to be so: Agresti and Coull's (1998) two pseudo-rows of each kind
    share = (table.selected + 2) / (table.rows + 4)
    variances = np.where(table.selected == table.rows, (1 - share) / share / (table.rows + 4), variances)
    value = float(rates.min() / rates.max())

    def reach(level: float) -> tuple[Floats, Floats]:
        half = z_quantile(level) * np.sqrt(variances)
        return half, half

    return worst_log_ratio(value, table.names, logs, reach, confidence, near_only)


def error_ratio(
    names: tuple[str, ...],
    codes: npt.NDArray[np.intp],
    square_error: Floats,
    confidence: float = 0.95,
    near_only: bool = False,
) -> Worst:
    """Return the ratio of the smallest group RMSE to the largest, for regressors.

    Each group's mean square has the bounds of `skew_bound`; those of a ratio of two are put together from theirs (Zou and
    Donner 2008: the distances of each to its bound, squared and summed, on the log scale); over pairs as in `parity_ratio`.

    Raises
    ------
    NotEnough
        Fewer than two groups of at least two rows, or a group without any error.
    """
    if len(names) < 2:
        raise NotEnough(f"a group error ratio needs at least two groups, got {len(names)}")
    seen = codes >= 0
    kept, error = codes[seen], square_error[seen]
    rows = np.bincount(kept, minlength=len(names)).astype(float)
    if rows.min() < 2:
        raise NotEnough(f"group {names[int(rows.argmin())]!r} has {int(rows.min())} row, expected at least two")
    mean = np.bincount(kept, error, len(names)) / rows
    if mean.min() <= 0:
        raise NotEnough(f"group {names[int(mean.argmin())]!r} has no error at all, a ratio of errors is undefined")
    away = error - mean[kept]
    second, third = (np.bincount(kept, away**power, len(names)) / rows for power in (2, 3))
    se = np.sqrt(second / (rows - 1))
    varied = np.where(second > 0, second, 1.0)
    skew = third / varied**1.5 / np.sqrt(rows)
    logs = 0.5 * np.log(mean)

    def reach(level: float) -> tuple[Floats, Floats]:
        quantile = np.array([t_quantile(level, float(d)) for d in rows - 1])
        below, above = (skew_bound(mean, se, skew, side * quantile) for side in (-1, 1))
        return logs - 0.5 * np.log(np.maximum(below, 1e-300)), 0.5 * np.log(above) - logs

    value = math.sqrt(float(mean.min() / mean.max()))
    return worst_log_ratio(value, names, logs, reach, confidence, near_only)


def worst_log_ratio(
    value: float,
    names: tuple[str, ...],
    logs: Floats,
    reach: Callable[[float], tuple[Floats, Floats]],
    confidence: float,
    near_only: bool = False,
) -> Worst:
    """Return bounds of the smallest ratio over all ordered pairs of groups.

    Parameters
    ----------
    logs : ndarray, shape (groups,)
        Logarithm of each group's value; groups are independent.
    reach
        How far below and above its value each group's one-sided bounds lie at a confidence, on the log scale.
    """
    size = len(names)
    pairs = size * (size - 1) / 2
    gap = logs[:, None] - logs[None, :]
    off = ~np.eye(size, dtype=bool)
    if near_only:
        one = np.mean(reach(float(sps.norm.cdf(1))), axis=0)  # about a standard error
        pairs = _near(gap[off], np.hypot(one[:, None], one[None, :])[off], gap[off].argmin())
    below, above = reach(confidence)
    low = float(np.exp((gap - np.hypot(below[:, None], above[None, :]))[off].min()))
    below, above = reach(1 - (1 - confidence) / pairs)
    high = float(np.exp((gap + np.hypot(above[:, None], below[None, :]))[off].min()))
    worse, better = int(logs.argmin()), int(logs.argmax())
    return Worst(value, min(low, value), max(min(high, 1.0), value), (names[worse], names[better]))


def _near(gap: Floats, se: Floats, worst: int | np.intp) -> int:
    """How many pairs are not surely (two standard errors) better than the worst one, that one included."""
    return max(1, int(np.count_nonzero(gap - gap[worst] <= 2 * np.hypot(se, se[worst]) * (np.arange(gap.size) != worst))))


def known_gap(table: GroupTable, which: str, confidence: float = 0.95, near_only: bool = False) -> Worst:
    """Return `rate_gap` of ``true_positives`` or ``false_positives``.

    Raises
    ------
    NotEnough
        Fewer than two groups have the rate.
    """
    trials = table.positives if which == "true_positives" else table.negatives
    found = rate_gap(table.names, getattr(table, which), trials, confidence, near_only)
    if found is None:
        what = "positives" if which == "true_positives" else "negatives"
        raise NotEnough(f"a difference of rates needs two groups with {what}, got {int(np.count_nonzero(trials))}")
    return found


def rate_gap(
    names: tuple[str, ...], hits: Ints, trials: Ints, confidence: float = 0.95, near_only: bool = False
) -> Worst | None:
    """Return the largest difference of a rate between groups, ``None`` where fewer than two groups have the rate.

    Of true-positive rates it is the equal-opportunity difference.

    Groups without trials are left out: their rate is undefined, not zero. Newcombe intervals for every pair; the upper
    bound is the largest over pairs (intersection-union), the lower one the largest over pairs at the level divided by
    their number.
    """
    known = np.flatnonzero(trials > 0)
    if known.size < 2:
        return None
    rates = hits[known] / trials[known]
    pairs = known.size * (known.size - 1) / 2
    off = ~np.eye(known.size, dtype=bool)
    gap = (rates[:, None] - rates[None, :])[off]
    if near_only:
        variance = rates * (1 - rates) / trials[known]
        pairs = _near(-gap, np.sqrt(variance[:, None] + variance[None, :])[off], gap.argmax())
    high = float(_newcombe(rates, trials[known], 2 * confidence - 1)[1][off].max())
    low = float(_newcombe(rates, trials[known], 1 - 2 * (1 - confidence) / pairs)[0][off].max())
    value = float(rates.max() - rates.min())
    worse, better = known[int(rates.argmin())], known[int(rates.argmax())]
    return Worst(value, min(max(low, 0.0), value), max(high, value), (names[worse], names[better]))


def _newcombe(rates: Floats, trials: Ints, confidence: float) -> tuple[Floats, Floats]:
    """Newcombe's intervals of rate a - rate b for every pair (a, b), shape (groups, groups); `share_difference` for one."""
    z2 = z_quantile((1 + confidence) / 2) ** 2
    centre = (rates + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * rates * (1 - rates) / trials + z2**2 / (4 * trials.astype(float) ** 2)) / (1 + z2 / trials)
    low, high = rates - np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0) - rates
    gap = rates[:, None] - rates[None, :]
    return gap - np.hypot(low[:, None], high[None, :]), gap + np.hypot(high[:, None], low[None, :])
