"""Rows to profile, wherever they lie: an Arrow table, a pandas frame, Parquet files, or a stream that can be read again."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_mlgates.drift.columns import Kind, kind_of
from pytest_mlgates.errors import DataUnusable

BATCH_ROWS = 65_536
_FEW_GROUPS = 4


class Source(Protocol):
    """Rows that can be read more than once."""

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""

    def sample(self, columns: Sequence[str], rows: int) -> pa.Table:
        """About ``rows`` rows taken evenly from the whole."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""


class ArrowSource:
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.schema = table.schema
        self.rows = int(table.num_rows)

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        return self._table.column(name)

    def sample(self, columns: Sequence[str], rows: int) -> pa.Table:
        """Every k-th row."""
        chosen = self._table.select(list(columns))
        return chosen if self.rows <= rows else chosen.take(pa.array(np.linspace(0, self.rows - 1, rows).astype(np.int64)))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""
        yield from self._table.select(list(columns)).to_batches(max_chunksize=BATCH_ROWS)


class ParquetSource:
    """One Parquet file, or a folder of them, read a batch at a time."""

    def __init__(self, path: Path) -> None:
        paths = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not paths or not all(p.is_file() for p in paths):
            raise DataUnusable(f"{path}: no Parquet file there; check the path")
        if path.is_dir() and (path / "_delta_log").is_dir():
            # its log says which files and rows still count; the files alone would bring deleted rows back
            raise DataUnusable(f"{path} is a Delta table; read it through the lakehouse, or with deltalake.QueryBuilder")
        try:
            plain = pq.read_schema(paths[0])
            # text stays dictionary-encoded as it lies in the file: counting codes costs a tenth of decoding strings
            text = [f.name for f in plain if kind_of(f.type) is Kind.CATEGORY and not pa.types.is_boolean(f.type)]
            self._files = [pq.ParquetFile(p, read_dictionary=text, pre_buffer=False) for p in paths]
        except (pa.ArrowException, OSError) as error:
            raise DataUnusable(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
        self.schema = self._files[0].schema_arrow
        for other, file in zip(paths[1:], self._files[1:], strict=True):
            _require_alike(self.schema, file.schema_arrow, paths[0], other)
        self.rows = sum(f.metadata.num_rows for f in self._files)

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        return pa.chunked_array([c for f in self._files for c in f.read([name]).column(0).chunks], self.schema.field(name).type)

    def sample(self, columns: Sequence[str], rows: int) -> pa.Table:
        """Runs of rows at even distances: the head of each of at most 16 row groups (of whole groups where there are few)."""
        groups = [(f, g) for f in self._files for g in range(f.metadata.num_row_groups)]
        chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, 16).astype(int))]
        share = max(1, rows // len(chosen))
        parts = []
        for file, group in chosen:
            if len(groups) < _FEW_GROUPS:
                whole = file.read_row_group(group, columns=list(columns), use_threads=False)
                parts.append(ArrowSource(whole).sample(columns, share))
                continue
            heads = file.iter_batches(share, row_groups=[group], columns=list(columns), use_threads=False)
            parts.append(pa.Table.from_batches([next(heads)]))
        return pa.concat_tables(parts)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""
        for file in self._files:
            yield from file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False)


def _require_alike(first: pa.Schema, other: pa.Schema, path: Path, other_path: Path) -> None:
    for field in first:
        index = other.get_field_index(field.name)
        found = "missing" if index < 0 else other.field(index).type
        if found != field.type:
            raise DataUnusable(
                f"{other_path}: column {field.name!r} is {found}, in {path.name} {field.type}; write all files with one schema"
            )


class StreamSource:
    """A stream that can be opened again, such as ``lambda columns: store.batches(table, columns=columns, where=…)``."""

    def __init__(self, open_stream: Callable[[Sequence[str]], Iterable[pa.RecordBatch]], schema: pa.Schema) -> None:
        self._open = open_stream
        self.schema = schema

    @functools.cached_property
    def rows(self) -> int:
        """Number of rows, by a pass over the first column."""
        return sum(batch.num_rows for batch in self._open(self.schema.names[:1]))

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        kind = self.schema.field(name).type
        return pa.chunked_array([batch.column(0).cast(kind) for batch in self._open([name])], kind)

    def sample(self, columns: Sequence[str], rows: int) -> pa.Table:
        """Every k-th row, by one pass; k doubles whenever more rows than wanted are held."""
        step, seen, held = 1, 0, 0
        parts: list[pa.RecordBatch] = []
        for batch in self._open(columns):
            parts.append(batch.take(pa.array(np.arange((-seen) % step, batch.num_rows, step))))
            seen += batch.num_rows
            held += parts[-1].num_rows
            if held > rows:
                whole = pa.Table.from_batches(parts).combine_chunks()
                parts = whole.take(pa.array(np.arange(0, held, 2))).to_batches()
                step, held = 2 * step, sum(p.num_rows for p in parts)
        wanted = pa.schema([self.schema.field(c) for c in columns])
        return pa.Table.from_batches(parts).cast(wanted) if parts else wanted.empty_table()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""
        yield from coalesced(self._open(columns))


def coalesced(batches: Iterable[pa.RecordBatch], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Join small batches (some readers hand out 8,192 rows) to at least ``rows``: the kernel's fixed cost counts.

    A batch that is large enough goes through as it is, for joining copies.
    """
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if batch.num_rows >= rows // 2 and held:
            yield _joined(held)
            held, count = [], 0
        held.append(batch)
        count += batch.num_rows
        if count >= rows // 2:
            yield _joined(held)
            held, count = [], 0
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches).combine_chunks()
    columns = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in whole.columns]
    return pa.RecordBatch.from_arrays(columns, schema=whole.schema)


def as_source(rows: Any, what: str) -> Source:
    """Return the rows as a `Source`: an Arrow table, record batch or reader, a pandas frame, or a Parquet path.

    Raises
    ------
    DataUnusable
        ``rows`` is none of them, or cannot be read.
    """
    source = _source(rows, what)
    twice = sorted({name for name, count in Counter(source.schema.names).items() if count > 1})
    if twice:
        raise DataUnusable(f"the {what} rows have more than one column {twice[0]!r}; give each column a name of its own")
    return source


def _source(rows: Any, what: str) -> Source:
    if isinstance(rows, ArrowSource | ParquetSource | StreamSource):
        return rows
    if isinstance(rows, pa.Table):
        return ArrowSource(rows)
    if isinstance(rows, pa.RecordBatch):
        return ArrowSource(pa.Table.from_batches([rows]))
    if isinstance(rows, pa.RecordBatchReader):
        return ArrowSource(rows.read_all())
    if isinstance(rows, str | Path):
        return ParquetSource(Path(rows))
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        try:
            return ArrowSource(pa.Table.from_pandas(rows, preserve_index=False))
        except (pa.ArrowException, ValueError) as error:  # mixed types, complex numbers, two columns of one name
            raise DataUnusable(
                f"the {what} frame is no table of typed columns: {' '.join(str(error).split())[:200]}"
            ) from error
    raise DataUnusable(f"the {what} rows are {type(rows).__name__}; give an Arrow table, a pandas frame or a Parquet path")
