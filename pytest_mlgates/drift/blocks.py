"""How much windows vary by themselves: rows of one day are not independent, and neither are the days of one season.

Two measurements per feature, both over the same cells that PSI counts in. From the days of both windows: the design
effect, how many rows carry the information of one independent row (Rao & Scott 1981, with days as clusters). From whole
windows of the current one's length, cut from the reference: how far such a window usually lies from the rest of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pytest_mlgates.drift.cells import DISCRETE, TOP_CATEGORIES
from pytest_mlgates.drift.columns import Kind, kind_of
from pytest_mlgates.drift.compare import Design

MIN_WINDOWS = 4


def designs(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[str],
    *,
    reference_days: NDArray[np.int64],
    current_days: NDArray[np.int64],
    window_days: int,
    season: int = 7,
) -> dict[str, Design]:
    """Measure each column's chance variation between days and between windows.

    Parameters
    ----------
    reference, current
        Rows of both windows.
    columns
        Columns that both have.
    reference_days, current_days : ndarray of int64, shape (rows,)
        Day number of each row.
    window_days
        Length of the current window.
    season
        Days are compared with those of the same place in the week, so that a weekly cycle is no noise; 1 for none.
    """
    stored = {name: day_cells(reference.column(name), reference_days) for name in columns}
    known = {name: cells for name, cells in stored.items() if cells is not None}
    return designs_from(known, current, current_days=current_days, window_days=window_days, season=season)


def designs_from(
    stored: Mapping[str, DayCells], current: pa.Table, *, current_days: NDArray[np.int64], window_days: int, season: int = 7
) -> dict[str, Design]:
    """Measure as `designs` does, where of the reference only its rows per day and cell are known."""
    out = {}
    for name, cells in stored.items():
        if kind_of(current.schema.field(name).type) is not cells.rule.kind:
            continue
        now = cells.rule.count(current.column(name), current_days)
        effect = _day_effect([cells.table, now.table], [cells.days, now.days], season)
        past, freedom, windows = _past_windows(cells, window_days)
        out[name] = Design(max(1.0, effect), past, freedom, windows)
    return out


@dataclasses.dataclass(frozen=True, slots=True)
class CellRule:
    """Which cell a value falls in, as the reference says.

    Attributes
    ----------
    kind
        Kind of the column.
    names
        Its most frequent categories, ascending; every other value is one further cell. Empty for numbers.
    numbers : ndarray, ascending
        The values of a discrete column, else the cuts between deciles; two, else one, further cells for what is left.
    discrete
        Whether ``numbers`` are values.
    """

    kind: Kind
    names: tuple[str, ...]
    numbers: NDArray[np.float64]
    discrete: bool

    @classmethod
    def of(cls, reference: pa.ChunkedArray) -> CellRule | None:
        """Choose cells for a column, ``None`` where nothing is known of it."""
        kind = kind_of(reference.type)
        if kind in (Kind.EMPTY, Kind.OTHER):
            return None
        if not kind.numeric:
            names, counts = np.unique(_texts(reference), return_counts=True)
            top = names[np.argsort(-counts, kind="stable")][:TOP_CATEGORIES]
            return cls(kind, tuple(sorted(map(str, top))), np.empty(0), discrete=True) if len(top) else None
        known = _floats(reference)
        known = np.sort(known[np.isfinite(known)])
        if known.size == 0:
            return None
        distinct = np.unique(known)
        if distinct.size <= DISCRETE:
            return cls(kind, (), distinct, discrete=True)
        return cls(kind, (), np.unique(known[(np.arange(1, 10) * known.size + 9) // 10 - 1]), discrete=False)

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.names) + 1 if self.names else self.numbers.size + 2

    def codes(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Cell number of every row."""
        if self.names:
            order, values = np.asarray(self.names), _texts(column)
            index = np.searchsorted(order, values).clip(0, len(order) - 1)
            return np.where(order[index] == values, index, len(order)).astype(np.int64)
        numbers = _floats(column)
        if self.discrete:
            index = np.searchsorted(self.numbers, numbers).clip(0, self.numbers.size - 1)
            codes = np.where(self.numbers[index] == numbers, index, self.numbers.size)
        else:
            codes = np.searchsorted(self.numbers, numbers, side="left")
        return np.where(np.isfinite(numbers), codes, self.numbers.size + 1).astype(np.int64)

    def count(self, column: pa.ChunkedArray, days: NDArray[np.int64]) -> DayCells:
        """Count rows per day and cell."""
        return DayCells(self, np.unique(days), _by_group(self.codes(column), days, self.cells))


@dataclasses.dataclass(frozen=True, slots=True)
class DayCells:
    """Rows of a column per day and cell: all that is needed of a reference to know its chance variation.

    Attributes
    ----------
    rule
        Which cell a value falls in.
    days : ndarray of int64, shape (days,), ascending
        Day numbers.
    table : ndarray, shape (days, cells)
    """

    rule: CellRule
    days: NDArray[np.int64]
    table: NDArray[np.float64]


def day_cells(column: pa.ChunkedArray, days: NDArray[np.int64]) -> DayCells | None:
    """Count a reference column per day and cell, ``None`` where it has no values."""
    rule = CellRule.of(column)
    return None if rule is None else rule.count(column, days)


def _texts(column: pa.ChunkedArray) -> NDArray[np.str_]:
    return np.array(column.cast(pa.string()).to_pylist(), dtype=object).astype(str)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    from pytest_mlgates.drift.profile import with_gaps

    return np.concatenate([with_gaps(chunk) for chunk in column.chunks]) if column.num_chunks else np.empty(0)


def _by_group(codes: NDArray[np.int64], groups: NDArray[np.int64], cells: int) -> NDArray[np.float64]:
    """Rows per group and cell, shape (groups, cells)."""
    if codes.size == 0:
        return np.zeros((0, cells))
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    return np.bincount(index * cells + codes, minlength=count * cells).reshape(count, cells).astype(float)


def _day_effect(tables: Sequence[NDArray[np.float64]], days: Sequence[NDArray[np.int64]], season: int) -> float:
    """Return the mean generalised design effect of the cell shares, with days as clusters, within each place of the season.

    ``sum_d sum_k (O_dk - n_d p_k)^2 / (N p_k) / (cells - 1)``, times days over the degrees of freedom that the means leave.
    """
    pooled = np.sum([t.sum(axis=0) for t in tables], axis=0)
    total = pooled.sum()
    held = pooled > 0
    if total <= 0 or held.sum() < 2:
        return 1.0
    squares, groups, count = 0.0, 0, 0
    for table, day in zip(tables, days, strict=True):
        if len(day) < 2:
            continue
        # a short window has each place of the season once, which would leave nothing to measure: it is taken whole
        places = day % season if len(day) >= 3 * season else np.zeros_like(day)
        for place in np.unique(places):
            part = table[places == place]
            shares = part.sum(axis=0) / part.sum()
            gap = (part - part.sum(axis=1, keepdims=True) * shares)[:, held]
            squares += float((gap**2 / (total * pooled[held] / total)).sum())
            groups += 1
        count += len(day)
    if count <= groups:
        return 1.0
    return float(squares / (held.sum() - 1) * count / (count - groups))


def _past_windows(reference: DayCells, window_days: int) -> tuple[float, float, int]:
    """Mean chi-square per degree of freedom of past windows against the rest, its effective freedom, and their number."""
    days = reference.days
    if days.size == 0:
        return 0.0, 0.0, 0
    # counted back from the newest day, so that the windows have the current one's length and place in the week
    window = (days.max() - days) // window_days
    spans = np.bincount(window)
    if not (spans > 0).all():
        return 0.0, 0.0, 0
    table = np.zeros((spans.size, reference.table.shape[1]))
    np.add.at(table, window, reference.table)
    table = table[spans == window_days]
    if len(table) < MIN_WINDOWS:
        return 0.0, 0.0, 0
    everything = table.sum(axis=0)
    held = everything > 0
    freedom = int(held.sum()) - 1
    if freedom < 1:
        return 0.0, 0.0, 0
    ratios = np.array([_pearson(everything[held] - row[held], row[held]) for row in table]) / freedom
    mean, variance = float(ratios.mean()), float(ratios.var(ddof=1))
    if mean <= 0:
        return 0.0, 0.0, 0
    effective = min(max(2 * mean**2 / variance if variance > 0 else freedom, 1.0), float(freedom))
    return mean, effective, len(table)


def _pearson(rest: NDArray[np.float64], row: NDArray[np.float64]) -> float:
    table: Any = np.vstack([rest, row])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(((table - expected) ** 2 / np.maximum(expected, 1e-12)).sum())


def seasonal_weights(reference: Sequence[Any], current: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a weight for each reference row so that its seasonal cells have the current window's mix.

    Parameters
    ----------
    reference, current
        Cell label of each row (day of the week, holiday or not, ...).

    Returns
    -------
    weights : ndarray, shape (reference rows,)
        They sum to the number of reference rows; 0 for rows in cells that the current window does not have.
    matched : ndarray of bool, shape (current rows,)
        Current rows whose cell the reference has; the others have nothing to be compared with.
    """
    ref = np.asarray([str(x) for x in reference])
    cur = np.asarray([str(x) for x in current])
    cells, index, counts = np.unique(ref, return_inverse=True, return_counts=True)
    matched = np.isin(cur, cells)
    if not matched.any() or ref.size == 0:
        return np.ones(ref.size), matched
    mix = np.array([(cur == cell).sum() for cell in cells]) / matched.sum()
    weights = (mix / (counts / ref.size))[index]
    return np.asarray(weights, dtype=float), matched
