"""Champion/challenger: score each new day once with both, keep the scores, say how the race stands."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pytest_mlgates.errors import ConfigError, DataUnusable, ModelNotFound, WriteConflict
from pytest_mlgates.promotion.contest import Day, Race, judge
from pytest_mlgates.promotion.machine import PRODUCTION, STAGING
from pytest_mlgates.promotion.policy import Contest
from pytest_mlgates.services.evaluate import as_scores
from pytest_mlgates.services.select import version_at
from pytest_mlgates.services.stages import Stages
from pytest_mlgates.tables import CHALLENGER, SCHEMAS

if TYPE_CHECKING:
    from pytest_mlgates.config import ModelSettings, Settings
    from pytest_mlgates.ports import ModelRegistry, ModelVersion, TableStore

_WRITE_TRIES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """What one run did.

    Attributes
    ----------
    scored
        Days that were scored now.
    already
        Days of the window that had been scored before.
    gaps
        Days of the window with no actuals, or not all of them yet, with the reason.
    """

    champion: ModelVersion
    challenger: ModelVersion
    scored: tuple[dt.date, ...]
    already: tuple[dt.date, ...]
    gaps: tuple[tuple[dt.date, str], ...]
    race: Race


def pair_id(champion: ModelVersion, challenger: ModelVersion) -> str:
    """Name a pair of versions; the table's rows carry it."""
    return f"{champion.label} vs {challenger.label}"


def find_pair(
    registry: ModelRegistry, settings: Settings, champion_name: str, challenger_name: str
) -> tuple[ModelVersion, ModelVersion]:
    """Return the Production version of one model and the newest Staging version of the other (or of the same).

    Raises
    ------
    ModelNotFound
        One of the two stages is empty.
    """
    champion = _in_stage(registry, settings, champion_name, PRODUCTION)
    challenger = _in_stage(registry, settings, challenger_name, STAGING)
    if champion is None:
        raise ModelNotFound(f"{champion_name} has no Production version to be champion; promote one first")
    if challenger is None:
        raise ModelNotFound(f"{challenger_name} has no Staging version to be challenger; promote one to Staging first")
    return champion, challenger


def all_pairs(registry: ModelRegistry, settings: Settings) -> list[tuple[ModelVersion, ModelVersion]]:
    """Return every champion with the newest Staging version that it must answer to, of the models that the settings know."""
    found = []
    for name in registry.names():
        try:
            version = _in_stage(registry, settings, name, STAGING)
            champion = champion_of(registry, settings, version) if version is not None else None
        except ConfigError:  # no table of the settings is for this model
            continue
        if version is not None and champion is not None:
            found.append((champion, version))
    return found


def champion_of(registry: ModelRegistry, settings: Settings, version: ModelVersion) -> ModelVersion | None:
    """Return whom a version must beat: its model's own Production version, else the baseline of the settings, else none."""
    own = _in_stage(registry, settings, version.name, PRODUCTION)
    if own is not None and own.version != version.version:
        return own
    baseline = settings.model(version.name).baseline
    if not baseline:
        return None
    try:
        found = version_at(registry, baseline)
    except ModelNotFound:
        return None
    return None if (found.name, found.version) == (version.name, version.version) else found


def contest_for(registry: ModelRegistry, store: TableStore, settings: Settings, version: ModelVersion) -> Contest:
    """Say whether champion/challenger agrees to this version's promotion."""
    champion = champion_of(registry, settings, version)
    if champion is None:
        return Contest(agrees=False, summary="there is no champion to compare with (a first Production version)")
    race = race_between(store, settings, champion, version)
    if race.days == 0:
        command = f"mlgates challenger run --champion {champion.name} --challenger {version.name}"
        return Contest(agrees=False, summary=f"{champion.label} and {version.label} were never compared; run: {command}")
    return Contest(race.agrees, f"champion {champion.label}: {race.summary}")


def race_between(store: TableStore, settings: Settings, champion: ModelVersion, challenger: ModelVersion) -> Race:
    """Read the scores of a pair and judge them."""
    rows = _rows(store, f"pair = {_quoted(pair_id(champion, challenger))}")
    scores: dict[dt.date, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(row["eval_date"], {})[row["stage"]] = row["rmse"]
    days = [Day(date, both[PRODUCTION], both[STAGING]) for date, both in scores.items() if len(both) == 2]
    return judge(
        days,
        wins_required=settings.policy.consecutive_wins,
        min_e_value=settings.policy.min_e_value,
        challengers=_challengers(store, champion),
    )


def evaluate(
    registry: ModelRegistry,
    store: TableStore,
    settings: Settings,
    champion: ModelVersion,
    challenger: ModelVersion,
    *,
    today: dt.date,
    window_days: int = 1,
    since: dt.date | None = None,
    table: str = "",
    time_column: str = "",
) -> Evaluation:
    """Score every day up to yesterday that this pair has no score for.

    Parameters
    ----------
    champion, challenger
        See `find_pair`.
    today
        The day it is; days before it are scored.
    window_days
        Days to look back on the first run of a pair; later runs start at the pair's first day, so missed days are filled in.
    since
        Look back to this day instead.
    table, time_column
        Where inputs and actuals are, by day; default: ``[models."…".drift]`` of the challenger.

    Raises
    ------
    ConfigError
        No table or time column is known.
    DataUnusable
        The time column is no DATE.
    LakehouseError, ModelUnusable
        A column is missing, or a model does not answer.
    """
    model = settings.model(challenger.name)
    table, time_column = _source(model, table, time_column, challenger.name)
    pair = pair_id(champion, challenger)
    loaded: dict[str, Any] = {}
    for _ in range(_WRITE_TRIES):
        number = _counter(store, pair)
        known = {row["eval_date"] for row in _rows(store, f"pair = {_quoted(pair)}")}
        start = since or min([*known, *_first_look(store, pair), today - dt.timedelta(days=window_days)])
        wanted = [start + dt.timedelta(days=i) for i in range((today - start).days)]
        fresh = [day for day in wanted if day not in known]
        loaded = loaded or {"p": registry.load(champion), "s": registry.load(challenger)} if fresh else loaded
        scored, gaps, rows = _score(store, model, table, time_column, fresh, champion, challenger, loaded)
        try:
            if rows:
                store.append(CHALLENGER, _to_table(rows, pair), transaction=(_transaction(pair), number + 1))
        except WriteConflict:  # another run of the same pair, or any other writer of the table: look again at what is missing
            time.sleep(random.uniform(0.01, 0.1))
            continue
        if gaps and not _first_look(store, pair):  # a first day whose actuals come late is looked for again
            with contextlib.suppress(WriteConflict):  # another run has just written down its own
                first = min(start, *known) if known else start
                store.append(CHALLENGER, _to_table([], pair), transaction=(_first_transaction(pair), first.toordinal()))
        already = tuple(day for day in wanted if day in known)
        return Evaluation(champion, challenger, scored, already, gaps, race_between(store, settings, champion, challenger))
    raise WriteConflict(f"{CHALLENGER}: other runs kept writing; nothing was scored, run it again")


def _score(
    store: TableStore,
    model: ModelSettings,
    table: str,
    time_column: str,
    days: Sequence[dt.date],
    champion: ModelVersion,
    challenger: ModelVersion,
    loaded: dict[str, Any],
) -> tuple[tuple[dt.date, ...], tuple[tuple[dt.date, str], ...], list[dict[str, Any]]]:
    if not days:
        return (), (), []
    inputs = {c.name for p in loaded.values() for c in p.inputs}
    frame = _read_days(store, table, time_column, sorted({*inputs, model.target}), days)
    scored, gaps, rows = [], [], []
    for day in days:
        part = frame[frame["__day"] == day]
        late = int(part[model.target].isna().sum())
        wild = 0 if part.empty or late else int((~_finite(part[model.target])).sum())
        if part.empty or late or wild:
            why = f"{late} of {len(part)} actuals are not there yet" if late else f"{wild} of {len(part)} actuals are infinite"
            gaps.append((day, "no rows" if part.empty else why))
            continue
        for stage, version, predictor in ((PRODUCTION, champion, loaded["p"]), (STAGING, challenger, loaded["s"])):
            y = part[model.target].to_numpy()
            x = part[[c.name for c in predictor.inputs if c.name in part.columns]]
            predicted = as_scores(predictor, x, model.task, version.label)
            rows.append(
                {"eval_date": day, "model_name": version.name, "stage": stage, "run_id": version.run_id,
                 "version": version.version, "n": len(part), **errors(y, predicted, model.task)}
            )  # fmt: skip
        scored.append(day)
    return tuple(scored), tuple(gaps), rows


def _finite(actuals: pd.Series) -> Any:
    """Which actuals are finite numbers; labels that are no numbers count as finite."""
    return np.isfinite(actuals.to_numpy(dtype=float)) if pd.api.types.is_numeric_dtype(actuals) else np.ones(len(actuals), bool)


def errors(y: Any, predicted: Any, task: str) -> dict[str, float | None]:
    """Return ``rmse`` (of the probabilities, for a classification), ``mape`` (a fraction, over y ≠ 0) and ``r2``.

    ``mape`` and ``r2`` are ``None`` for a classification, and where they are not defined (all y zero, or all equal).
    """
    if task == "multiclass":
        classes = np.unique(y)
        if predicted.shape[1] != len(classes):
            classes = np.arange(predicted.shape[1])
        truth = (np.asarray(y)[:, None] == classes[None, :]).astype(float)
        return {"rmse": float(np.sqrt(np.mean(np.sum((predicted - truth) ** 2, axis=1)))), "mape": None, "r2": None}
    truth = np.asarray(y, dtype=float)
    miss = predicted - truth
    rmse = float(np.sqrt(np.mean(miss**2)))
    if task != "regression":
        return {"rmse": rmse, "mape": None, "r2": None}
    nonzero = truth != 0
    spread = float(np.sum((truth - truth.mean()) ** 2))
    return {
        "rmse": rmse,
        "mape": float(np.mean(np.abs(miss[nonzero] / truth[nonzero]))) if nonzero.any() else None,
        "r2": 1.0 - float(np.sum(miss**2)) / spread if spread > 0 else None,
    }


def _read_days(
    store: TableStore, table: str, time_column: str, columns: Sequence[str], days: Sequence[dt.date]
) -> pd.DataFrame:
    low, high = min(days), max(days) + dt.timedelta(days=1)
    kind = store.read(table, columns=[time_column], where="false").schema.field(0).type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise DataUnusable(f"{table}.{time_column} is {kind}, expected DATE or TIMESTAMP; cast it in the Silver table")
    where = f"\"{time_column}\" >= DATE '{low}' AND \"{time_column}\" < DATE '{high}'"
    frame: pd.DataFrame = store.read(table, columns=[time_column, *columns], where=where).to_pandas()
    frame["__day"] = pd.to_datetime(frame[time_column]).dt.date
    return frame


def _source(model: ModelSettings, table: str, time_column: str, name: str) -> tuple[str, str]:
    table, time_column = table or model.drift.table, time_column or model.drift.time_column
    if not table or not time_column:
        message = (
            f'{name}: no table of inputs and actuals by day; set table and time_column in [models."…".drift], or give --table'
        )
        raise ConfigError(message)
    return table, time_column


def _in_stage(registry: ModelRegistry, settings: Settings, name: str, stage: str) -> ModelVersion | None:
    stages = Stages(registry, name, settings.policy.stage_mode)
    inside = [v for v in registry.versions(name) if stages.of(v) == stage]
    return inside[-1] if inside else None


def _challengers(store: TableStore, champion: ModelVersion) -> int:
    prefix = f"{champion.label} vs "
    pairs = {row["pair"] for row in _rows(store, f"stage = '{STAGING}'", columns=["pair"])}
    return max(1, sum(str(pair).startswith(prefix) for pair in pairs))


def _rows(store: TableStore, where: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    if not store.exists(CHALLENGER):
        return []
    found: list[dict[str, Any]] = store.read(
        CHALLENGER, columns=columns or ["eval_date", "stage", "rmse"], where=where
    ).to_pylist()
    return found


def _transaction(pair: str) -> str:
    return f"challenger {pair}"


def _counter(store: TableStore, pair: str) -> int:
    store.create(CHALLENGER, SCHEMAS[CHALLENGER])
    return store.transaction(CHALLENGER, _transaction(pair)) or 0


def _first_transaction(pair: str) -> str:
    return f"challenger since {pair}"


def _first_look(store: TableStore, pair: str) -> list[dt.date]:
    """The first day that was ever looked at for a pair and had a gap; kept as an application transaction of the table."""
    found = store.transaction(CHALLENGER, _first_transaction(pair))
    return [dt.date.fromordinal(found)] if found else []


def _to_table(rows: list[dict[str, Any]], pair: str) -> pa.Table:
    now = dt.datetime.now(dt.UTC)
    return pa.Table.from_pylist([{**row, "pair": pair, "evaluated_at": now} for row in rows], schema=SCHEMAS[CHALLENGER])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
