"""How a model treats groups: parity ratio, equal opportunity, equalized odds, error ratio, with bounds over all groups."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.stats import arrays
from pytest_mlgates.stats.arrays import Bools, Floats, Ints, NotEnough
from pytest_mlgates.stats.interval import z_quantile
from pytest_mlgates.stats.proportions import share_difference


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

    codes, uniques = pd.factorize(pd.Series(values).reset_index(drop=True), use_na_sentinel=True)
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


def parity_ratio(table: GroupTable, confidence: float = 0.95) -> Worst:
    """Return the demographic-parity ratio: smallest selection rate over largest.

    Parameters
    ----------
    table
        At least two groups with rows.
    confidence
        Of each one-sided bound.

    Raises
    ------
    NotEnough
        Fewer than two groups, or nobody is selected at all.

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
    rates = table.selected / table.rows
    logs = np.log((table.selected + 0.5) / (table.rows + 0.5))
    variances = np.maximum(1 / (table.selected + 0.5) - 1 / (table.rows + 0.5), 0.0)
    value = float(rates.min() / rates.max())
    return worst_log_ratio(value, table.names, logs, variances, confidence)


def error_ratio(names: tuple[str, ...], codes: npt.NDArray[np.intp], square_error: Floats, confidence: float = 0.95) -> Worst:
    """Return the ratio of the smallest group RMSE to the largest, for regressors.

    Delta method on log RMSE per group: var(e²) / (4 n mean(e²)²); bounds over pairs as in `parity_ratio`.

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
    spread = np.maximum(np.bincount(kept, error * error, len(names)) / rows - mean**2, 0) * rows / (rows - 1)
    value = math.sqrt(float(mean.min() / mean.max()))
    return worst_log_ratio(value, names, 0.5 * np.log(mean), spread / (4 * rows * mean**2), confidence)


def worst_log_ratio(value: float, names: tuple[str, ...], logs: Floats, variances: Floats, confidence: float) -> Worst:
    """Return bounds of the smallest ratio over all ordered pairs of groups, from independent log values and variances."""
    size = len(names)
    pairs = size * (size - 1) / 2
    gap = logs[:, None] - logs[None, :]
    se = np.sqrt(variances[:, None] + variances[None, :])
    off = ~np.eye(size, dtype=bool)
    low = float(np.exp((gap - z_quantile(confidence) * se)[off].min()))
    high = float(np.exp((gap + z_quantile(1 - (1 - confidence) / pairs) * se)[off].min()))
    worse, better = int(logs.argmin()), int(logs.argmax())
    return Worst(value, min(low, value), max(min(high, 1.0), value), (names[worse], names[better]))


def rate_gap(names: tuple[str, ...], hits: Ints, trials: Ints, confidence: float = 0.95) -> Worst | None:
    """Return the largest difference of a rate between groups, ``None`` where fewer than two groups have the rate.

    Of true-positive rates it is the equal-opportunity difference.

    Groups without trials are left out: their rate is undefined, not zero. Newcombe intervals for every pair; the upper
    bound is the largest over pairs (intersection-union), the lower one the largest over pairs at the level divided by
    their number.
    """
    known = [i for i in range(len(names)) if trials[i] > 0]
    if len(known) < 2:
        return None
    pairs = len(known) * (len(known) - 1) / 2
    low = high = 0.0
    rates = hits[known] / trials[known]
    for a in known:
        for b in known:
            if a == b:
                continue
            cells = (int(hits[a]), int(trials[a]), int(hits[b]), int(trials[b]))
            high = max(high, share_difference(*cells, 2 * confidence - 1).high)
            low = max(low, share_difference(*cells, 1 - 2 * (1 - confidence) / pairs).low)
    value = float(rates.max() - rates.min())
    worse, better = known[int(rates.argmin())], known[int(rates.argmax())]
    return Worst(value, min(low, value), max(high, value), (names[worse], names[better]))
