"""Delta tables in a folder (or at ``abfss://`` / ``s3://``), without a JVM: the only importer of `deltalake`.

Reads go through ``deltalake.QueryBuilder``: ``to_pyarrow_dataset`` refuses tables with deletion vectors, and reading the
files behind a table brings deleted rows back.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pytest_mlgates.errors import LakehouseError, WriteConflict, nearest

_NAME = re.compile(r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")
_COMMIT_RETRIES = 50  # deltalake's default of 15 loses 21 of 800 appends by 8 processes on a quiet machine
_APPEND_WAIT_S = 60.0
_CREATE_TRIES = 10
_BULK = ("datafusion.execution.batch_size = 65536", "datafusion.execution.target_partitions = 1")


class Lakehouse:
    """Tables below one root; table ``lh_gold.NAME`` lies at ``ROOT/lh_gold/NAME``."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")
        self._local = "://" not in self.root

    def uri(self, table: str) -> str:
        """Where the table lies."""
        if not _NAME.match(table):
            raise LakehouseError(
                f"{table!r} is not a table name; write schema.table in letters, digits and _, e.g. lh_gold.holdout"
            )
        return "/".join([self.root, *table.split(".")])

    def folder(self, table: str) -> Path | None:
        """The same as a folder of this machine; ``None`` where it is none."""
        return Path(self.uri(table)) if self._local else None

    def exists(self, table: str) -> bool:
        """Whether the table is there."""
        return bool(DeltaTable.is_deltatable(self.uri(table)))

    def version(self, table: str) -> int:
        """The table's newest version."""
        return int(self._open(table).version())

    def tables(self) -> list[str]:
        """Names of all tables below a local root."""
        if not self._local or not Path(self.root).is_dir():
            return []
        root = Path(self.root)
        return sorted(".".join(log.parent.relative_to(root).parts) for log in root.glob("*/*/_delta_log"))

    def create(self, table: str, schema: pa.Schema, *, append_only: bool = False) -> None:
        """Create an empty table; silent where it exists; safe from several processes at once."""
        uri = self.uri(table)
        for attempt in range(_CREATE_TRIES):
            if DeltaTable.is_deltatable(uri):
                return
            try:
                if self._local:
                    Path(uri).parent.mkdir(parents=True, exist_ok=True)
                DeltaTable.create(
                    uri, schema=schema, mode="ignore", configuration={"delta.appendOnly": "true"} if append_only else None
                )
            except (DeltaError, OSError) as error:  # another process created it between our look and our write
                if attempt == _CREATE_TRIES - 1:
                    raise LakehouseError(f"cannot create {table} at {uri}: {_one_line(error)}") from error
                time.sleep(random.uniform(0.01, 0.1))

    def read(
        self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Read rows; ``where`` is a SQL predicate over the table's columns."""
        query = self._query(table, columns, where, version)
        try:
            # not pa.table(query.read_all()): it imports pandas, for half a second. Read whole before it crosses to pyarrow:
            # a panic of the reader on a damaged file is an exception here, and the end of the process within the crossing
            return _plain_strings(pa.RecordBatchReader.from_stream(query.read_all()).read_all())
        except BaseException as error:  # a missing or damaged data file comes up as a bare Exception, or as a panic
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise LakehouseError(f"cannot read {table}: {_one_line(error)[:400]}") from error

    def batches(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        version: int | None = None,
        bulk: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Like `read`, as a stream of record batches.

        With ``bulk`` it is a scan for one thread: batches of 65,536 rows instead of 8,192, one file at a time (half the CPU
        time and a fraction of the memory, but no second core), and texts may come as string views.
        """
        for batch in pa.RecordBatchReader.from_stream(self._query(table, columns, where, version, bulk=bulk)):
            if bulk:
                yield batch
            else:
                yield from _plain_strings(pa.Table.from_batches([batch])).to_batches()

    def append(self, table: str, rows: pa.Table, *, transaction: tuple[str, int] | None = None) -> int:
        """Append rows, fitted to the table's own columns; return the table's new version.

        With ``transaction`` the append is a compare-and-swap: WriteConflict when another writer reached that number first.
        """
        handle = self._open(table)
        data = self._fit(table, rows, pa.schema(handle.schema().to_arrow()))
        if transaction is None:
            return self._append_anyhow(table, handle, data)
        name, seq = transaction
        last = handle.transaction_version(name)
        if last is not None and last >= seq:
            raise WriteConflict(f"{table}: {name} is already at {last}, wanted {seq}; read again and retry")
        self._commit(table, handle, data, CommitProperties(app_transactions=[Transaction(name, seq)], max_commit_retries=0))
        return int(handle.version())

    def _append_anyhow(self, table: str, handle: DeltaTable, data: pa.Table) -> int:
        """Append whoever else writes: a commit that failed left nothing behind, so it is made again on a fresh handle.

        Delta's own retries do not wait; on a busy machine 8 writers use up 50 of them. Ours do, by chance, up to `_APPEND_WAIT_S`.
        """
        deadline = time.monotonic() + _APPEND_WAIT_S
        while True:
            try:
                self._commit(table, handle, data, CommitProperties(max_commit_retries=_COMMIT_RETRIES))
                return int(handle.version())
            except WriteConflict:
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.05, 0.5))
                handle = self._open(table)

    @staticmethod
    def _commit(table: str, handle: DeltaTable, data: pa.Table, properties: CommitProperties) -> None:
        try:
            write_deltalake(handle, data, mode="append", commit_properties=properties)
        except CommitFailedError as error:
            raise WriteConflict(f"{table}: another writer committed first ({error}); read again and retry") from error
        except (DeltaError, OSError) as error:
            raise LakehouseError(
                f"cannot append {data.num_rows} rows to {table} at {handle.table_uri}: {_one_line(error)}"
            ) from error

    def transaction(self, table: str, name: str) -> int | None:
        """The last committed number of an application transaction."""
        found = self._open(table).transaction_version(name)
        return None if found is None else int(found)

    def compact(self, table: str) -> None:
        """Put small files together; rows, transactions and append-only stay as they are. Raises WriteConflict."""
        try:
            self._open(table).optimize.compact()
        except CommitFailedError as error:
            raise WriteConflict(f"{table}: another writer committed first; nothing was compacted") from error
        except (DeltaError, OSError) as error:
            raise LakehouseError(f"cannot compact {table}: {_one_line(error)}") from error

    def checkpoint(self, table: str) -> None:
        """Write the newest version's state beside the log, so that a reader need not replay every commit."""
        try:
            self._open(table).create_checkpoint()
        except (DeltaError, OSError) as error:
            raise LakehouseError(f"cannot write a checkpoint of {table}: {_one_line(error)}") from error

    def file_count(self, table: str) -> int:
        """Data files of the newest version."""
        return int(pa.table(self._open(table).get_add_actions()).num_rows)

    def prune(self, table: str, where: str) -> int:
        """Remove rows of an append-only table for its archive; the protection is off only in between. Return their number."""
        handle = self._open(table)
        guarded = handle.metadata().configuration.get("delta.appendOnly") == "true"
        try:
            if guarded:
                handle.alter.set_table_properties({"delta.appendOnly": "false"})
            try:
                return int(self._open(table).delete(where)["num_deleted_rows"])
            finally:
                if guarded:
                    self._open(table).alter.set_table_properties({"delta.appendOnly": "true"})
        except CommitFailedError as error:
            raise WriteConflict(f"{table}: another writer committed first; nothing was removed, run it again") from error
        except (DeltaError, OSError) as error:
            raise LakehouseError(f"cannot remove rows of {table}: {_one_line(error)}") from error

    def files(self, table: str, version: int | None = None) -> list[Path]:
        """Data files of a version; empty where the lakehouse is no folder of this machine."""
        if not self._local:
            return []
        folder = Path(self.uri(table))
        actions = pa.table(self._open(table, version).get_add_actions())
        return [folder / unquote(str(path)) for path in actions.column("path").to_pylist()]

    def size_bytes(self, table: str) -> int:
        """Bytes of the files that the table's newest version is made of."""
        sizes = pa.table(self._open(table).get_add_actions()).column("size_bytes").to_pylist()
        return sum(int(size or 0) for size in sizes)

    def vacuum(self, table: str, *, retain_hours: int, dry_run: bool) -> int:
        """Remove the files that no version of the last hours needs; with ``dry_run`` only count them."""
        try:
            return len(self._open(table).vacuum(retention_hours=retain_hours, dry_run=dry_run, enforce_retention_duration=True))
        except (DeltaError, OSError) as error:
            raise LakehouseError(f"cannot vacuum {table}: {_one_line(error)}") from error

    def guarded(self, table: str) -> bool:
        """Whether the table is append-only."""
        return bool(self._open(table).metadata().configuration.get("delta.appendOnly") == "true")

    def overwrite(self, table: str, rows: pa.Table) -> int:
        """Replace the table's rows (creating it where absent) and return its new version."""
        uri = self.uri(table)
        if self._local:
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            write_deltalake(uri, _plain_strings(rows), mode="overwrite", schema_mode="overwrite")
        except (DeltaError, OSError) as error:
            raise LakehouseError(f"cannot write {table} at {uri}: {_one_line(error)}") from error
        return self.version(table)

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self.uri(table), version=version)
        except TableNotFoundError as error:
            message = f"table {table} is not in the lakehouse at {self.root}; {nearest(table, self.tables())}"
            raise LakehouseError(message) from error
        except (DeltaError, OSError, OverflowError) as error:
            if version is not None and version > (newest := self.version(table)):
                raise LakehouseError(f"table {table} has no version {version}; the newest is {newest}") from None
            raise LakehouseError(f"cannot open {table} at {self.uri(table)}: {_one_line(error)}") from error

    def _query(
        self, table: str, columns: Sequence[str] | None, where: str | None, version: int | None, *, bulk: bool = False
    ) -> Any:
        handle = self._open(table, version)
        if columns is not None:
            known = [f.name for f in handle.schema().fields]
            for column in columns:
                if column not in known:
                    raise LakehouseError(f"{table} has no column {column!r}; {nearest(column, known)}")
        chosen = "*" if columns is None else ", ".join(f'"{c}"' for c in columns)
        sql = f'SELECT {chosen} FROM "t"' + (f" WHERE {where}" if where else "")  # noqa: S608 the predicate is ours
        try:
            builder = QueryBuilder().register("t", handle)
            for setting in _BULK if bulk else ():
                builder.execute(f"SET {setting}")
            return builder.execute(sql)
        except (DeltaError, OSError, ValueError) as error:
            raise LakehouseError(f"cannot read {table}: {_one_line(error)}") from error

    @staticmethod
    def _fit(table: str, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        for name in rows.column_names:
            if name not in schema.names:
                raise LakehouseError(f"{table} has no column {name!r}; {nearest(name, schema.names)}")
        columns = []
        for field in schema:
            kind = _plain_type(field.type)
            if field.name not in rows.column_names:
                columns.append(pa.nulls(rows.num_rows, kind))
                continue
            try:
                columns.append(rows.column(field.name).cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                given = rows.schema.field(field.name).type
                raise LakehouseError(f"{table}.{field.name} is {kind}, got {given}: {_one_line(error)}") from error
        return pa.table(columns, schema=pa.schema([pa.field(f.name, _plain_type(f.type), f.nullable) for f in schema]))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def _plain_strings(table: pa.Table) -> pa.Table:
    """Turn string views into plain strings: not every consumer of Arrow can read a view."""
    for index, field in enumerate(table.schema):
        kind = _plain_type(field.type)
        if kind != field.type:
            table = table.set_column(index, pa.field(field.name, kind, field.nullable), table.column(index).cast(kind))
    return table


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
