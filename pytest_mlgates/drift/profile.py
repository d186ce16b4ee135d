"""The profile of a table: one pass over Arrow batches, additive, about 32 kB a numeric column.

The same kernel runs in this process and inside Spark's ``mapInArrow``; profiles of parts are summed, so the result does
not depend on how the rows were cut up.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_mlgates.drift.columns import (
    Kind,
    category_counts,
    dense_values,
    kind_of,
    microseconds,
    numeric_values,
    refuse_text_dates,
)
from pytest_mlgates.drift.distributions import EDGES, Categories, Exact, Moments, Profiled
from pytest_mlgates.drift.sources import Source
from pytest_mlgates.errors import DataUnusable

Distribution: TypeAlias = Exact | Profiled | Categories
SAMPLE_ROWS = 131_072  # rows that edges are chosen from: no gap between edges then holds more than 1.3 thousandths
WIDEST = 1.4e-3


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """Distributions of a table's columns.

    Attributes
    ----------
    rows
        Rows of the table.
    kinds
        Kind of every column, also of those that cannot be compared.
    columns
        Distribution of every column that can.
    """

    rows: float
    kinds: Mapping[str, Kind]
    columns: Mapping[str, Distribution]

    @property
    def exact(self) -> bool:
        """Whether the numeric columns hold their values, not counts at edges."""
        return not any(isinstance(c, Profiled) for c in self.columns.values())

    @property
    def edges(self) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Edges of each profiled column."""
        return {name: c.edges for name, c in self.columns.items() if isinstance(c, Profiled)}

    def __add__(self, other: Profile) -> Profile:
        """Return the profile of both tables together."""
        columns = {name: c + other.columns[name] for name, c in self.columns.items()}  # type: ignore[operator]
        return Profile(self.rows + other.rows, self.kinds, columns)

    def scaled(self, weight: float) -> Profile:
        """Return the profile with every row counted ``weight`` times."""
        columns = {name: c.scaled(weight) for name, c in self.columns.items() if not isinstance(c, Exact)}
        return Profile(self.rows * weight, self.kinds, columns)

    def to_bytes(self) -> bytes:
        """Return the profile as one Parquet file, a row a column: what is stored with a model version."""
        sink = io.BytesIO()
        pq.write_table(profile_table(self), sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """Read `to_bytes`. Raises DataUnusable."""
        try:
            # ParquetFile, not read_table: the latter imports pandas by way of pyarrow.dataset
            return profile_from_table(pq.ParquetFile(io.BytesIO(data)).read())
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataUnusable(f"the stored reference profile cannot be read ({error}); make it again") from error


def exact_profile(source: Source, columns: Sequence[str], weights: Any = None) -> Profile:
    """Sort one column at a time; ``weights`` (shape (rows,)) counts each row that often."""
    kinds = {name: kind_of(source.schema.field(name).type) for name in columns}
    found: dict[str, Distribution] = {}
    for name, kind in kinds.items():
        if kind is Kind.OTHER:
            continue
        chunks = source.column(name).chunks
        found[name] = _exact_column(name, kind, chunks, weights)
    return Profile(float(source.rows), kinds, found)


def _exact_column(name: str, kind: Kind, chunks: Sequence[pa.Array], weights: Any) -> Distribution:
    if not kind.numeric:
        if weights is not None:
            return _weighted_categories(chunks, np.asarray(weights, dtype=float))
        return functools.reduce(lambda a, b: a + b, (_categories(name, c) for c in chunks), Categories({}))
    if weights is not None:
        return _weighted_numbers(chunks, np.asarray(weights, dtype=float))
    return _exact_numbers(chunks)


def _exact_numbers(chunks: Sequence[pa.Array]) -> Exact:
    parts = [numeric_values(chunk) for chunk in chunks]
    values = np.concatenate([p[0] for p in parts]) if parts else np.empty(0)
    return Exact(np.sort(values), sum(p[1] for p in parts), sum(p[2] for p in parts))


def _weighted_numbers(chunks: Sequence[pa.Array], weights: np.ndarray[Any, np.dtype[np.float64]]) -> Exact:
    values = np.concatenate([with_gaps(chunk) for chunk in chunks]) if chunks else np.empty(0)
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weights[finite][order])])
    missing = float(weights[np.isnan(values)].sum())
    return Exact(values[finite][order], missing, float(weights[np.isinf(values)].sum()), cumulative)


def with_gaps(chunk: pa.Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a numeric or temporal array as float64, a NaN for each missing row."""
    out = np.full(len(chunk), np.nan)
    valid = np.asarray(chunk.is_valid().to_numpy(zero_copy_only=False))
    dense = chunk.filter(chunk.is_valid())
    if pa.types.is_temporal(dense.type):
        out[valid] = microseconds(dense).to_numpy(zero_copy_only=False) / 1e6
    else:
        out[valid] = dense.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return out


def _weighted_categories(chunks: Sequence[pa.Array], weights: np.ndarray[Any, np.dtype[np.float64]]) -> Categories:
    names = [value for chunk in chunks for value in chunk.cast(pa.string()).to_pylist()]
    counts: dict[str, float] = {}
    missing = 0.0
    for name, weight in zip(names, weights.tolist(), strict=True):
        if name is None:
            missing += weight
        else:
            counts[name] = counts.get(name, 0.0) + weight
    return Categories(counts, missing)


def profile_rows(source: Source, columns: Sequence[str]) -> Profile:
    """Profile rows at edges of their own: one pass, and a second over those columns whose first rows were not like the rest.

    Edges are quantiles of the first `SAMPLE_ROWS` rows. Counts at them are exact whatever they are; but where rows are in an
    order (of time, say), too many may fall between two edges, and then that column is profiled again, at quantiles of rows
    taken evenly from the whole.
    """
    batches = iter(source.batches(columns))
    head: list[pa.RecordBatch] = []
    while (sampled := sum(b.num_rows for b in head)) < SAMPLE_ROWS and (batch := next(batches, None)) is not None:
        head.append(batch)
    batch = None
    kinds = {name: kind_of(source.schema.field(name).type) for name in columns}
    numeric = [name for name, kind in kinds.items() if kind.numeric]
    first = Profile(float(sampled), kinds, _first_rows(head, kinds))
    head.clear()
    profile = first + build_profile(batches, source.schema, columns, first.edges)
    again = [name for name in numeric if _coarse(profile.columns[name])] if profile.rows > sampled else []
    if again:
        edges = edges_of(source.sample(again, SAMPLE_ROWS), again)
        better = build_profile(source.batches(again), source.schema, again, edges)
        profile = dataclasses.replace(profile, columns={**profile.columns, **better.columns})
    return profile


def _first_rows(head: Sequence[pa.RecordBatch], kinds: Mapping[str, Kind]) -> dict[str, Distribution]:
    """Choose edges and count the rows that they come from: each column is sorted once for both."""
    found: dict[str, Distribution] = {}
    for name, kind in kinds.items():
        chunks = [batch.column(batch.schema.get_field_index(name)) for batch in head]
        if kind.numeric:
            found[name] = _at_edges(_exact_numbers(chunks))
        elif kind is not Kind.OTHER:
            found[name] = _exact_column(name, kind, chunks, None)
    return found


def _at_edges(column: Exact) -> Profiled:
    """Count a sorted column at its own values where they are few, else at its quantiles.

    A column that is all missing has one edge to count at, all the same.
    """
    starts = np.flatnonzero(column.values[1:] != column.values[:-1]) + 1
    # at quantiles alone, rare values of a column of counts would fall between two edges
    few = starts.size < EDGES and column.values.size
    edges = column.values[np.concatenate([[0], starts])] if few else column.quantile_values(EDGES)
    edges = edges if edges.size else np.zeros(1)
    return Profiled.of(column.values, edges, missing=column.missing, infinite=column.infinite, ordered=True)


def _coarse(column: Distribution) -> bool:
    """Whether some gap between two edges holds more rows than the stated accuracy allows."""
    assert isinstance(column, Profiled)
    if column.n == 0:
        return False
    ends = np.append(column.less, column.n)
    starts = np.concatenate([[0.0], column.less + column.equal])
    return float((ends - starts).max()) > WIDEST * column.n


def edges_of(sample: pa.Table, columns: Sequence[str]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Choose at most 1,023 edges for each numeric column: quantiles of a sample of its rows."""
    return {n: _at_edges(_exact_numbers(sample.column(n).chunks)).edges for n in columns}


def build_profile(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    columns: Sequence[str],
    edges: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]],
) -> Profile:
    """Profile a stream of batches in one pass. ``edges`` needs an entry for every numeric column."""
    kinds = {name: kind_of(schema.field(name).type) for name in columns}
    found: dict[str, Distribution] = {}
    for name, kind in kinds.items():
        if kind is not Kind.OTHER:
            found[name] = Profiled.empty(edges[name]) if kind.numeric else Categories({})
    rows = 0
    scratch = np.empty(0)
    for batch in batches:
        rows += batch.num_rows
        if scratch.size <= batch.num_rows:
            scratch = np.empty(batch.num_rows + 1)
        for name, before in found.items():
            array = batch.column(batch.schema.get_field_index(name))
            if isinstance(before, Categories):
                found[name] = before + _categories(name, array)
                continue
            missing, values = float(array.null_count), dense_values(array)
            found[name] = before + Profiled.of(values, edges[name], missing=missing, infinite=0.0, scratch=scratch)  # type: ignore[operator]
    return Profile(float(rows), kinds, found)


def _categories(name: str, array: pa.Array) -> Categories:
    if pa.types.is_null(array.type):
        return Categories({}, float(len(array)))
    refuse_text_dates(name, array)
    counts, missing = category_counts(array)
    return Categories(counts, missing)


PROFILE_SCHEMA = pa.schema(
    [
        ("column", pa.string()), ("kind", pa.string()), ("rows", pa.float64()), ("missing", pa.float64()),
        ("infinite", pa.float64()), ("edges", pa.list_(pa.float64())), ("less", pa.list_(pa.float64())),
        ("equal", pa.list_(pa.float64())), ("sums", pa.list_(pa.float64())), ("moments", pa.list_(pa.float64())),
        ("categories", pa.list_(pa.string())), ("counts", pa.list_(pa.float64())), ("other", pa.float64()),
        ("truncated", pa.bool_()),
    ]
)  # fmt: skip


def profile_table(profile: Profile) -> pa.Table:
    """Return a profile as a table with one row a column; exact columns are counted at their own quantiles first."""
    return pa.Table.from_pylist(list(_records(profile)), schema=PROFILE_SCHEMA)


def _records(profile: Profile) -> Iterator[dict[str, Any]]:
    for name, kind in profile.kinds.items():
        record: dict[str, Any] = {"column": name, "kind": kind.value, "rows": profile.rows}
        column = profile.columns.get(name)
        if isinstance(column, Exact):
            column = _at_edges(column)
        if isinstance(column, Profiled):
            record |= {"missing": column.missing, "infinite": column.infinite, "moments": dataclasses.astuple(column.moments)}
            record |= {key: getattr(column, key) for key in ("edges", "less", "equal", "sums")}
        elif isinstance(column, Categories):
            record |= {"missing": column.missing, "other": column.other, "truncated": column.truncated}
            record |= {"categories": list(column.counts), "counts": list(column.counts.values())}
        yield record


def profile_from_table(table: pa.Table) -> Profile:
    """Read `profile_table`; several rows of one column (one a partition) are summed."""
    kinds: dict[str, Kind] = {}
    columns: dict[str, Distribution] = {}
    rows: dict[str, float] = {}
    for record in table.to_pylist():
        name = record["column"]
        kinds[name] = Kind(record["kind"])
        rows[name] = rows.get(name, 0.0) + record["rows"]
        part = _column_of(record)
        if part is not None:
            columns[name] = columns[name] + part if name in columns else part  # type: ignore[operator]
    return Profile(max(rows.values(), default=0.0), kinds, columns)


def _column_of(record: Mapping[str, Any]) -> Distribution | None:
    if record["edges"] is not None:
        edges, less, equal, sums = (np.asarray(record[key], dtype=float) for key in ("edges", "less", "equal", "sums"))
        return Profiled(edges, less, equal, sums, record["missing"], record["infinite"], Moments(*record["moments"]))
    if record["categories"] is not None:
        counts = dict(zip(record["categories"], record["counts"], strict=True))
        return Categories(counts, record["missing"], record["other"], record["truncated"])
    return None
