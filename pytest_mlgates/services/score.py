"""Batch scoring, exactly once per row and version, whatever crashes and however many run at once.

Each batch of rows is one commit to the forecast table, made by compare-and-swap: the number that it swaps was read before
the rows that still need a score were looked up, so a commit in between makes the append fail, and the look-up is made again.
A commit is there whole or not at all, so a run that is killed leaves only whole batches behind.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pytest_mlgates import cost
from pytest_mlgates.errors import DataUnusable, UsageProblem, WriteConflict, nearest
from pytest_mlgates.services.crash import crash_point
from pytest_mlgates.services.drift_records import quoted
from pytest_mlgates.services.evaluate import as_scores
from pytest_mlgates.services.select import versions_of
from pytest_mlgates.tables import FORECASTS, PREDICTION_LOG, SCHEMAS, SILVER

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import ModelRegistry, ModelVersion, TableStore

BATCH_ROWS = 200_000
POINTS = (
    "score-start", "score-loaded", "score-read", "score-predicted", "score-before-append", "score-after-append",
    "score-all-appended", "score-log-read", "score-before-log", "score-after-log",
)  # fmt: skip
"""Every point of a run at which it may be killed on purpose, in order."""

_WAIT_S = 120.0
_STAGES = ("production", "staging", "archived")
Predict = Callable[[pa.Table], Any]
"""Rows of the model's inputs to one prediction a row, in their order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """What a run did. ``unscorable`` rows lack an input; ``rows`` were scored now, ``before`` had their score already."""

    version: ModelVersion
    run_id: str
    rows: int
    before: int
    unscorable: int
    logged: int
    seconds: float

    def line(self) -> str:
        """One line for the console."""
        rate = f", {self.rows / self.seconds:,.0f} rows/s" if self.rows and self.seconds > 0 else ""
        skipped = f", {self.unscorable:,} without all inputs" if self.unscorable else ""
        return f"{self.version.label} ({self.version.stage}): {self.rows:,} rows scored, {self.before:,} before{skipped}{rate}"


@dataclasses.dataclass(frozen=True, slots=True)
class Tables:
    """Where rows come from and scores go to: source, forecast table, the columns that name a row, and the score's column."""

    source: str = SILVER
    target: str = FORECASTS
    keys: tuple[str, ...] = ("property_id", "play_date")
    prediction: str = "predicted_revenue"


def score(
    registry: ModelRegistry,
    store: TableStore,
    settings: Settings,
    model: str,
    *,
    stage: str = "Production",
    tables: Tables | None = None,
    engine: Callable[[ModelVersion], Predict] | None = None,
    batch_rows: int = BATCH_ROWS,
    log: bool = True,
    now: dt.datetime | None = None,
) -> Scored:
    """Score every row of the source that this version has not scored, and append the scores.

    Parameters
    ----------
    stage
        ``Production``, another stage or an ``@alias``; the version behind it now is what scores, and what is recorded.
    engine
        Who scores: given the version, it returns a function of rows; by default the model in this process.
    batch_rows
        Rows of one commit.
    log
        Append each score to the prediction log that the endpoint writes, as well.

    Raises
    ------
    UsageProblem
        A version number instead of a stage: a pinned consumer keeps an old model for ever.
    DataUnusable
        The source lacks a key or an input, or holds two rows with one key.
    WriteConflict
        Other writers came first for two minutes.
    """
    started = time.monotonic()
    if stage.lower() not in _STAGES and not stage.startswith("@"):
        raise UsageProblem(f"stage is {stage!r}; batch scoring takes a stage (Production) or an @alias, never a version number")
    with cost.metered(store, "batch", model, cost_center=settings.cost.center(model)) as meter:
        done = _score(
            registry, store, settings, model, stage, tables or Tables(), engine, batch_rows, log=log, now=now, started=started
        )
        meter.run_id, meter.version, meter.calls = done.run_id, done.version.version, done.rows
    return done


def _score(
    registry: ModelRegistry,
    store: TableStore,
    settings: Settings,
    model: str,
    stage: str,
    tables: Tables,
    engine: Callable[[ModelVersion], Predict] | None,
    batch_rows: int,
    *,
    log: bool,
    now: dt.datetime | None,
    started: float,
) -> Scored:
    crash_point("score-start")
    version = versions_of(registry, model, stage)[-1]
    predictor = registry.load(version)
    crash_point("score-loaded")
    run = _Run(store, version, tables, [c.name for c in predictor.inputs], now or dt.datetime.now(dt.UTC), batch_rows)
    task = settings.model(model).task

    def in_process(rows: pa.Table) -> Any:
        return as_scores(predictor, rows.to_pandas(), task, version.label)

    store.create(tables.target, _target_schema(store, tables))
    rows, before, unscorable = run.score_all(in_process if engine is None else engine(version))
    crash_point("score-all-appended")
    logged = run.log_all() if log else 0
    return Scored(version, run.run_id, rows, before, unscorable, logged, time.monotonic() - started)


def _target_schema(store: TableStore, tables: Tables) -> pa.Schema:
    if tables.target == FORECASTS:
        return SCHEMAS[FORECASTS]
    source = store.read(tables.source, columns=list(tables.keys), where="1 = 0").schema
    own = [f for f in SCHEMAS[FORECASTS] if f.name not in ("property_id", "play_date", "predicted_revenue")]
    return pa.schema([*source, pa.field(tables.prediction, pa.float64()), *own])


class _Run:
    """One scoring run of one version."""

    def __init__(
        self, store: TableStore, version: ModelVersion, tables: Tables, inputs: Sequence[str], now: dt.datetime, batch: int
    ) -> None:
        self.store, self.version, self.tables, self.inputs, self.now, self.batch = store, version, tables, inputs, now, batch
        self.run_id = f"score-{uuid.uuid4().hex[:16]}"
        self._mine = f"model_name = {quoted(version.name)} AND model_version = {quoted(version.version)}"
        self._transaction = f"score:{version.name}:{version.version}"

    def score_all(self, predict: Predict) -> tuple[int, int, int]:
        """Score until nothing is left; return rows scored now, rows scored before, rows that lack an input."""
        scored, before = 0, None
        deadline = time.monotonic() + _WAIT_S
        while True:
            seq = self.store.transaction(self.tables.target, self._transaction) or 0
            todo, done, unscorable = self._left()
            before = done if before is None else before
            crash_point("score-read")
            try:
                for part in self._parts(todo):
                    seq += 1
                    self._append(part, predict, seq)
                    scored += part.num_rows
                    deadline = time.monotonic() + _WAIT_S
            except WriteConflict:
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.01, 0.1))
                continue
            return scored, before, unscorable

    def _left(self) -> tuple[pa.Table, int, int]:
        """Rows without a score of this version; how many have one; how many lack an input."""
        keys = list(self.tables.keys)
        names = self.store.read(self.tables.source, where="1 = 0").column_names
        for column in (*keys, *self.inputs):
            if column not in names:
                raise DataUnusable(f"{self.tables.source} has no column {column!r}; {nearest(column, names)}")
        missing = f'"{self.tables.prediction}" IS NULL' if self.tables.prediction in names else None
        rows = self.store.read(self.tables.source, columns=[*keys, *(c for c in self.inputs if c not in keys)], where=missing)
        for column in keys:
            if gaps := rows.column(column).null_count:
                raise DataUnusable(
                    f"{self.tables.source}: {gaps} rows have no {column}; without a key a row would be scored again"
                )
        if rows.group_by(keys).aggregate([]).num_rows != rows.num_rows:
            raise DataUnusable(
                f"{self.tables.source} has two rows with the same {', '.join(keys)}; a row could not be told apart"
            )
        done = self.store.read(self.tables.target, columns=keys, where=self._mine)
        done = done.cast(pa.schema([rows.schema.field(k) for k in keys]))
        left = rows.join(done, keys=keys, join_type="left anti").sort_by([(k, "ascending") for k in keys])
        whole = np.ones(left.num_rows, dtype=bool)
        for column in self.inputs:
            values = left.column(column)
            valid = pc.is_valid(values)
            if pa.types.is_floating(values.type):
                valid = pc.and_(valid, pc.invert(pc.is_nan(values.fill_null(0.0))))
            whole &= np.asarray(valid.combine_chunks().to_numpy(zero_copy_only=False))
        return left.filter(pa.array(whole)), done.num_rows, int((~whole).sum())

    def _parts(self, rows: pa.Table) -> Iterator[pa.Table]:
        for start in range(0, rows.num_rows, self.batch):
            yield rows.slice(start, self.batch)

    def _append(self, part: pa.Table, predict: Predict, seq: int) -> None:
        scores = np.asarray(predict(part.select(list(self.inputs))), dtype=float)
        if scores.shape != (part.num_rows,) or not np.isfinite(scores).all():
            raise DataUnusable(f"{self.version.label} did not answer with one finite number for each of {part.num_rows} rows")
        crash_point("score-predicted")
        count = part.num_rows
        columns = {key: part.column(key) for key in self.tables.keys}
        columns |= {
            self.tables.prediction: pa.array(scores),
            "model_name": pa.array([self.version.name] * count),
            "model_version": pa.array([self.version.version] * count),
            "run_id": pa.array([self.run_id] * count),
            "scored_at": pa.array([self.now] * count, pa.timestamp("us", tz="UTC")),
        }
        crash_point("score-before-append")
        self.store.append(self.tables.target, pa.table(columns), transaction=(self._transaction, seq))
        crash_point("score-after-append")

    def log_all(self) -> int:
        """Append to the prediction log every score of this version that is not in it; return how many."""
        self.store.create(PREDICTION_LOG, SCHEMAS[PREDICTION_LOG])
        name = f"batch-{self._transaction}"
        logged = 0
        deadline = time.monotonic() + _WAIT_S
        while True:
            seq = self.store.transaction(PREDICTION_LOG, name) or 0
            left = self._unlogged()
            crash_point("score-log-read")
            try:
                for part in self._parts(left):
                    rows = self._log_rows(part)
                    seq += 1
                    crash_point("score-before-log")
                    self.store.append(PREDICTION_LOG, rows, transaction=(name, seq))
                    crash_point("score-after-log")
                    logged += rows.num_rows
                    deadline = time.monotonic() + _WAIT_S
            except WriteConflict:  # the endpoint writes to this table all the time
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.01, 0.1))
                continue
            return logged

    def _unlogged(self) -> pa.Table:
        """Scores that the prediction log does not have, with their inputs; the request id names version and row."""
        keys = list(self.tables.keys)
        scores = self.store.read(self.tables.target, columns=[*keys, self.tables.prediction, "scored_at"], where=self._mine)
        parts = [pc.cast(scores.column(k), pa.string()) for k in keys]
        prefix = f"batch:{self.version.name}:{self.version.version}:"
        ids = pc.binary_join_element_wise(prefix, pc.binary_join_element_wise(*parts, ":"), "")
        scores = scores.append_column("request_id", ids)
        logged = self.store.read(PREDICTION_LOG, columns=["request_id"], where=f"{self._mine} AND request_id LIKE 'batch:%'")
        left = scores.join(logged, keys="request_id", join_type="left anti")
        if left.num_rows == 0:
            return left
        source = self.store.read(self.tables.source, columns=[*keys, *(c for c in self.inputs if c not in keys)])
        return left.join(source, keys=keys, join_type="left outer")

    def _log_rows(self, left: pa.Table) -> pa.Table:
        inputs = [json.dumps(row, default=str) for row in left.select(list(self.inputs)).to_pylist()]
        return pa.table(
            {
                "request_id": left.column("request_id"),
                "logged_at": left.column("scored_at"),
                "model_name": pa.array([self.version.name] * left.num_rows),
                "model_version": pa.array([self.version.version] * left.num_rows),
                "inputs": pa.array(inputs),
                "prediction": left.column(self.tables.prediction),
            }
        )
