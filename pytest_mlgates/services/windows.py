"""The two windows of a drift run, cut by days from a table, or read from wherever they are named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pytest_mlgates.drift.blocks import seasonal_weights
from pytest_mlgates.drift.columns import microseconds
from pytest_mlgates.drift.stored import ARTIFACT, ReferenceDistribution
from pytest_mlgates.errors import DataUnusable, LakehouseError, UsageProblem, nearest
from pytest_mlgates.services.drift_records import quoted
from pytest_mlgates.tables import REFERENCE_DISTRIBUTION, TABLE_VERSION

if TYPE_CHECKING:
    from pytest_mlgates.config import Drift
    from pytest_mlgates.ports import ModelRegistry, ModelVersion, TableStore

REFERENCE = "mlgates/reference.parquet"
TRAINING = "training"
_DAYS = re.compile(r"^(\d+)\s*d?$")


@dataclasses.dataclass(frozen=True)
class Window:
    """Rows of one window.

    Attributes
    ----------
    rows
        The rows.
    first, last
        First and last day that it spans, ``None`` where it was not cut by days.
    days : ndarray of int64, shape (rows,), or None
        Day number of each row.
    label
        Where the rows are from.
    stored
        For the reference of a version: what is stored of its training rows, and ``rows`` is empty.
    """

    rows: pa.Table
    first: dt.date | None
    last: dt.date | None
    days: NDArray[np.int64] | None
    label: str
    stored: ReferenceDistribution | None = None

    @property
    def row_count(self) -> int:
        """Rows of the window, also where only their distribution is known."""
        return self.rows.num_rows if self.stored is None else int(self.stored.profile.rows)

    @property
    def columns(self) -> list[str]:
        """Columns of the window, also where only their distribution is known."""
        return list(self.rows.column_names if self.stored is None else self.stored.profile.kinds)

    @property
    def distribution(self) -> Any:
        """What `drift.compare` takes: the stored profile, else the rows."""
        return self.rows if self.stored is None else self.stored.profile

    @property
    def span_days(self) -> int:
        """Days that the window spans; 0 where it was not cut by days."""
        return 0 if self.first is None or self.last is None else (self.last - self.first).days + 1

    def with_column(self, name: str, values: Any) -> Window:
        """Return the window with one more column."""
        rows = self.rows.drop_columns([name]) if name in self.rows.column_names else self.rows
        return dataclasses.replace(self, rows=rows.append_column(name, pa.array(values)))

    def keep(self, mask: NDArray[np.bool_]) -> Window:
        """Return the window with some of its rows only."""
        if mask.all():
            return self
        days = None if self.days is None else self.days[mask]
        return dataclasses.replace(self, rows=self.rows.filter(pa.array(mask)), days=days)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Both windows, the weight of each reference row, and what a reader should know of them.

    ``identity`` names table, version and spans: two runs with the same identity see the same rows.
    """

    reference: Window
    current: Window
    weights: NDArray[np.float64] | None
    notes: tuple[str, ...]
    identity: str


def load_windows(
    store: TableStore,
    settings: Drift,
    *,
    columns: Sequence[str] | None = None,
    reference: str | int | None = None,
    current: str | int | None = None,
    now: dt.datetime | None = None,
    registry: ModelRegistry | None = None,
    version: ModelVersion | None = None,
    folder: Path | None = None,
) -> Windows:
    """Read both windows.

    Parameters
    ----------
    store, settings
        The lakehouse, and the model's drift settings.
    columns
        Columns to read beside the time column; by default all.
    reference, current
        Days (``90``, ``"90d"``), a Parquet path, a table (``lh_gold.NAME`` or ``lh_gold.NAME@VERSION``), or for the
        reference ``"training"``: the distribution stored with the version. By default as the settings say. A reference of
        days ends the day before the current window begins.
    now
        The current window ends the day before; by default it ends with the table's newest day.

    Raises
    ------
    UsageProblem
        No table in the settings, or a window that cannot be understood.
    DataUnusable
        A time column that is no DATE or TIMESTAMP, or a file that cannot be read.
    LakehouseError
        A table or column that is not there.
    """
    wanted_reference = _spec(_usual_reference(settings) if reference is None else reference, "reference")
    wanted_current = _spec(settings.current_days if current is None else current, "current")
    cut = isinstance(wanted_reference, int) or isinstance(wanted_current, int)
    cutter = _Cutter(store, settings, columns, now) if cut else None
    days = wanted_current if isinstance(wanted_current, int) else settings.current_days
    if isinstance(wanted_current, int):
        assert cutter is not None
        cur = cutter.window(cutter.last - dt.timedelta(days=wanted_current - 1), cutter.last)
    else:
        cur = _named(store, wanted_current, settings, columns, folder)
    if isinstance(wanted_reference, int):
        assert cutter is not None
        before = cutter.last - dt.timedelta(days=days)
        ref = cutter.window(before - dt.timedelta(days=wanted_reference - 1), before)
    elif wanted_reference == TRAINING:
        ref = _training(store, registry, version, settings, columns)
    else:
        ref = _named(store, wanted_reference, settings, columns, folder)
    return _balanced(ref, cur, settings, cutter)


def _usual_reference(settings: Drift) -> str | int:
    return TRAINING if settings.reference == TRAINING else settings.reference_days


def _spec(value: str | int, which: str) -> str | int:
    found = _DAYS.match(str(value).strip())
    if found is None:
        return str(value).strip()
    if int(found[1]) < 1:
        raise UsageProblem(f"the {which} window is {value} days; it must be at least 1")
    return int(found[1])


class _Cutter:
    """Cuts windows out of the settings' table, all from the version that it had at the start."""

    def __init__(self, store: TableStore, settings: Drift, columns: Sequence[str] | None, now: dt.datetime | None) -> None:
        if not settings.table or not settings.time_column:
            raise UsageProblem(
                'no rows to compare: the model\'s settings name no drift table; add [models."…".drift] '
                'table = "lh_gold.…" and time_column = "…", or give both windows as Parquet files'
            )
        self.store, self.table, self.time, self.columns = store, settings.table, settings.time_column, columns
        self.version = store.version(self.table)
        newest = None
        kind = None
        for batch in store.batches(self.table, columns=[self.time], version=self.version):
            kind = batch.schema.field(0).type
            top = pc.max(batch.column(0))
            newest = top if newest is None or (top.is_valid and pc.greater(top, newest).as_py()) else newest
        require_time(kind, self.table, self.time)
        self.date = kind is None or pa.types.is_date(kind)
        if now is not None:
            self.last = now.astimezone(dt.UTC).date() - dt.timedelta(days=1)
        elif newest is None or not newest.is_valid:
            raise DataUnusable(f"{self.table} has no rows with a {self.time}; fill it before looking for drift")
        else:
            self.last = _as_date(newest.as_py())

    def window(self, first: dt.date, last: dt.date) -> Window:
        """Read the days from ``first`` to ``last``, both inclusive."""
        column = f'"{self.time}"' if self.date else f'CAST("{self.time}" AS DATE)'
        where = f"{column} >= DATE '{first}' AND {column} <= DATE '{last}'"
        names = None if self.columns is None else [self.time, *(c for c in self.columns if c != self.time)]
        rows = self.store.read(self.table, columns=names, where=where, version=self.version)
        return Window(rows, first, last, day_numbers(rows, self.time), f"{self.table}@{self.version}")


def require_time(kind: pa.DataType | None, table: str, column: str) -> None:
    """Refuse a time column that is no DATE or TIMESTAMP. Raises DataUnusable."""
    if kind is not None and not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise DataUnusable(f"{table}.{column} is {kind}, expected DATE or TIMESTAMP; cast it in Silver: CAST({column} AS DATE)")


def day_numbers(rows: pa.Table, column: str) -> NDArray[np.int64]:
    """Days since 1970 (UTC for zoned times) of each row, shape (rows,)."""
    values = rows.column(column)
    if pa.types.is_timestamp(values.type):
        values = microseconds(values)
        micros = np.concatenate([c.to_numpy(zero_copy_only=False) for c in values.chunks] or [np.empty(0, np.int64)])
        return np.asarray(micros // 86_400_000_000, dtype=np.int64)
    days = values.cast(pa.date32()).cast(pa.int32())
    return np.concatenate([c.to_numpy(zero_copy_only=False) for c in days.chunks] or [np.empty(0)]).astype(np.int64)


def _as_date(value: Any) -> dt.date:
    if isinstance(value, dt.datetime):
        return (value.astimezone(dt.UTC) if value.tzinfo else value).date()
    assert isinstance(value, dt.date)
    return value


def _named(store: TableStore, name: str, settings: Drift, columns: Sequence[str] | None, folder: Path | None) -> Window:
    if name.endswith(".parquet"):
        path = (folder or Path()) / name
        if not path.is_file():
            raise UsageProblem(f"window file {path} is not there; check the path")
        try:
            rows = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataUnusable(f"window file {path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    else:
        table, _, pinned = name.partition("@")
        if "." not in table or (pinned and not TABLE_VERSION.fullmatch(pinned)):
            raise UsageProblem(f"window {name!r}: write days (90d), a .parquet path, schema.table or schema.table@VERSION")
        try:
            rows = store.read(table, version=int(pinned) if pinned else None)
        except LakehouseError as error:
            raise UsageProblem(str(error)) from error
    if columns is not None:
        keep = [c for c in rows.column_names if c in columns or c == settings.time_column]
        rows = rows.select(keep)
    return _spanned(rows, settings.time_column, name)


def _spanned(rows: pa.Table, time_column: str, label: str) -> Window:
    """A window that was named, cut by days all the same where it has the time column."""
    if time_column in rows.column_names and rows.num_rows and rows.column(time_column).null_count == 0:
        kind = rows.schema.field(time_column).type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            days = day_numbers(rows, time_column)
            first, last = (_date_of(int(d)) for d in (days.min(), days.max()))
            return Window(rows, first, last, days, label)
    return Window(rows, None, None, None, label)


def _training(
    store: TableStore,
    registry: ModelRegistry | None,
    version: ModelVersion | None,
    settings: Drift,
    columns: Sequence[str] | None,
) -> Window:
    """The stored distribution of a version's training rows where it has the columns, else the rows themselves."""
    if registry is None or version is None:
        raise UsageProblem("the reference 'training' needs a registered version")
    label = f"{version.label} training"
    stored = stored_distribution(store, registry, version)
    by_rows = [cell for cell in settings.cells if cell != "weekday"]  # rows can be weighted by a column, a distribution not
    if stored is not None and not by_rows and set(columns or ()) <= {*stored.profile.kinds, settings.time_column}:
        first, last = (None, None) if stored.span is None else map(_date_of, stored.span)
        return Window(pa.table({}), first, last, None, label, stored)
    return training_rows(registry, version, columns)


def stored_distribution(store: TableStore, registry: ModelRegistry, version: ModelVersion) -> ReferenceDistribution | None:
    """What is stored of a version's training rows: the artifact, else its rows in the lakehouse. Raises DataUnusable."""
    data = registry.read_artifact(version, ARTIFACT)
    if data is not None:
        return ReferenceDistribution.from_bytes(data)
    if not store.exists(REFERENCE_DISTRIBUTION):
        return None
    where = f"model_name = {quoted(version.name)} AND model_version = {quoted(version.version)}"
    runs = store.read(REFERENCE_DISTRIBUTION, columns=["created_at", "run_id"], where=where).to_pylist()
    if not runs:
        return None
    newest = max(runs, key=lambda row: row["created_at"])["run_id"]
    rows = store.read(REFERENCE_DISTRIBUTION, where=f"{where} AND run_id = {quoted(newest)}")
    return ReferenceDistribution.from_table(rows)


def training_rows(registry: ModelRegistry, version: ModelVersion, columns: Sequence[str] | None = None) -> Window:
    """Return the rows that were stored with a version at training. Raises DataUnusable."""
    data = registry.read_artifact(version, REFERENCE)
    if data is None:
        raise DataUnusable(f"{version.label} has no {REFERENCE}; log the training inputs there, or use --reference 90d")
    try:
        rows = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise DataUnusable(f"{version.label}: {REFERENCE} cannot be read: {' '.join(str(error).split())}") from error
    keep = [c for c in rows.column_names if columns is None or c in columns]
    return Window(rows.select(keep), None, None, None, f"{version.label} training")


def _date_of(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)


def _balanced(ref: Window, cur: Window, settings: Drift, cutter: _Cutter | None) -> Windows:
    """Leave out special days, and weigh the reference to the current window's mix of seasonal cells."""
    notes: list[str] = []
    ref, cur = _without_events(ref, settings, notes), _without_events(cur, settings, notes)
    labels = (None, None) if ref.stored else (_cell_labels(ref, settings), _cell_labels(cur, settings))
    weights = None
    if labels[0] is not None and labels[1] is not None and cur.rows.num_rows and ref.rows.num_rows:
        weights, matched = seasonal_weights(labels[0], labels[1])
        if matched.any():
            if not matched.all():
                notes.append(f"{int((~matched).sum())} current rows are in seasonal cells that the reference does not have")
                cur = cur.keep(matched)
        else:
            notes.append("no current row is in a seasonal cell of the reference: compared without cells")
        if np.allclose(weights, 1.0):
            weights = None
    parts = [ref.label, ref.first, ref.last, cur.label, cur.first, cur.last, cutter.version if cutter else ""]
    return Windows(ref, cur, weights, tuple(notes), "|".join(map(str, parts)))


def _without_events(window: Window, settings: Drift, notes: list[str]) -> Window:
    if window.days is None or not settings.events:
        return window
    events = [(dt.date.fromisoformat(e) - dt.date(1970, 1, 1)).days for e in settings.events]
    out = np.isin(window.days, events)
    if out.any():
        notes.append(f"{int(out.sum())} rows of special days left out of {window.first} → {window.last}")
    return window.keep(~out)


def _cell_labels(window: Window, settings: Drift) -> list[str] | None:
    parts: list[Sequence[Any]] = []
    for cell in settings.cells:
        if cell == "weekday":
            if window.days is None:
                return None
            parts.append(((window.days + 3) % 7).tolist())  # 1970-01-01 was a Thursday
        elif cell in window.rows.column_names:
            parts.append(window.rows.column(cell).to_pylist())
        else:
            hint = nearest(cell, window.rows.column_names)
            raise UsageProblem(f"drift.cells: {window.label} has no column {cell!r}; write weekday or a column ({hint})")
    return [" ".join(map(str, row)) for row in zip(*parts, strict=True)] if parts else None
