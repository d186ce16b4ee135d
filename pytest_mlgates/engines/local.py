"""Profiles made in this process, over Arrow batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_mlgates.drift.columns import Kind, kind_of
from pytest_mlgates.drift.profile import Profile, build_profile, profile_rows
from pytest_mlgates.drift.sources import StreamSource, as_source

if TYPE_CHECKING:
    from pytest_mlgates.ports import TableStore


class LocalEngine:
    """Profiles an Arrow table, a pandas frame, Parquet files or a table of the lakehouse."""

    def profile(self, rows: Any, columns: Sequence[str] | None = None, edges: Mapping[str, Any] | None = None) -> Profile:
        """Profile rows in one pass at ``edges``; without them they are chosen from the rows."""
        source = as_source(rows, "profiled")
        kinds = {c: kind_of(source.schema.field(c).type) for c in source.schema.names if columns is None or c in columns}
        known = None if edges is None else set(edges)
        usable = [
            c for c, kind in kinds.items() if kind is not Kind.OTHER and (known is None or not kind.numeric or c in known)
        ]
        if edges is None:
            found = profile_rows(source, usable)
            return Profile(found.rows, kinds, found.columns)
        found = build_profile(source.batches(usable), source.schema, usable, edges)
        return Profile(found.rows, kinds, found.columns)


def table_source(store: TableStore, table: str, *, where: str | None = None, version: int | None = None) -> StreamSource:
    """Return a table of the lakehouse as rows that can be read again, always from the same version.

    The stream is right on tables with deletion vectors, where reading the files behind the table brings deleted rows back.
    """
    pinned = store.version(table) if version is None else version
    empty = store.read(table, where="1 = 0", version=pinned)

    def open_stream(columns: Sequence[str]) -> Any:
        return store.batches(table, columns=list(columns), where=where, version=pinned, bulk=True)

    return StreamSource(open_stream, empty.schema)
