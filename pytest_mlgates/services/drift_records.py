"""What drift runs leave behind: metric rows, triggers, suppressions and injections, each table append-only."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pytest_mlgates.drift import stored
from pytest_mlgates.errors import LakehouseError, UsageProblem, WriteConflict, nearest
from pytest_mlgates.tables import (
    APPEND_ONLY,
    DRIFT_INJECTIONS,
    DRIFT_METRICS,
    DRIFT_SUPPRESSIONS,
    RETRAIN_TRIGGERS,
    SCHEMAS,
)

if TYPE_CHECKING:
    from pytest_mlgates.config import Drift
    from pytest_mlgates.ports import TableStore

OVERALL = "__overall__"
PREDICTION = stored.PREDICTION
LABEL = "__label__"
INJECTED = "injected-"
_WRITE_TRIES = 40


def create_tables(store: TableStore) -> None:
    """Make the tables of drift runs where they are absent."""
    for table in (DRIFT_METRICS, RETRAIN_TRIGGERS, DRIFT_INJECTIONS, DRIFT_SUPPRESSIONS):
        store.create(table, SCHEMAS[table], append_only=table in APPEND_ONLY)


def append_once(store: TableStore, table: str, key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Append rows unless another writer has appended under this key; return whether these were.

    The key is a Delta application transaction, so that of two runs at once exactly one writes, and a run that was killed
    between two tables finishes with the next call.
    """
    data = pa.Table.from_pylist([dict(r) for r in rows], schema=SCHEMAS[table])
    for _ in range(_WRITE_TRIES):
        if store.transaction(table, key) is not None:
            return False
        try:
            store.append(table, data, transaction=(key, 1))
        except WriteConflict:  # somebody appended something else meanwhile: look again
            continue
        return True
    raise WriteConflict(f"{table}: other writers were faster {_WRITE_TRIES} times; run it again")


def run_identity(model: str, version: str, identity: str, settings_digest: str) -> str:
    """Return the id of the run that these windows belong to: the same windows, the same id."""
    text = f"{model}\n{version}\n{identity}\n{settings_digest}"
    return "drift-" + hashlib.sha256(text.encode()).hexdigest()[:24]


def quoted(text: str) -> str:
    """Return a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def past_values(store: TableStore, model: str, version: str, metric: str) -> list[tuple[dt.datetime, float]]:
    """Values of a model-wide metric in this version's earlier runs, newest first; injected rows are left out."""
    if not store.exists(DRIFT_METRICS):
        return []
    where = f"model_name = {quoted(model)} AND model_version = {quoted(version)} AND metric_type = {quoted(metric)}"
    rows = store.read(DRIFT_METRICS, columns=["run_id", "run_timestamp", "value"], where=where).to_pylist()
    kept = [(r["run_timestamp"], float(r["value"])) for r in rows if r["value"] is not None and not is_injected(r["run_id"])]
    return sorted(kept, reverse=True)


def is_injected(run_id: str | None) -> bool:
    """Whether a metric row was put there by `inject_metric`."""
    return (run_id or "").startswith(INJECTED)


def last_retrains(store: TableStore, model: str) -> dict[str, dt.datetime]:
    """When each kind of trigger last led to a retrain of the model."""
    if not store.exists(RETRAIN_TRIGGERS):
        return {}
    rows = store.read(RETRAIN_TRIGGERS, where=f"model_name = {quoted(model)}").to_pylist()
    last: dict[str, dt.datetime] = {}
    for row in rows:
        if row["status"] == "cooldown" or row["triggered_at"] is None:
            continue
        for kind in [part.partition(":")[0].strip() for part in (row["reasons"] or "").split("; ")]:
            last[kind] = max(last.get(kind, row["triggered_at"]), row["triggered_at"])
    return last


def suppress(store: TableStore, model: str, feature: str, reason: str, until: dt.date, actor: str, now: dt.datetime) -> str:
    """Keep one feature of a model from alarming until a day; return the suppression's id.

    Raises
    ------
    UsageProblem
        No reason, or a day that is past.
    """
    if not reason.strip():
        raise UsageProblem("a suppression needs a reason; write --reason '…'")
    if until <= now.date():
        raise UsageProblem(f"until {until} is not after today, {now.date()}; give a later day")
    create_tables(store)
    row = {
        "suppression_id": f"suppress-{uuid.uuid4().hex[:16]}", "created_at": now, "model_name": model, "feature": feature,
        "reason": reason.strip(), "until": until, "actor": actor,
    }  # fmt: skip
    store.append(DRIFT_SUPPRESSIONS, pa.Table.from_pylist([row], schema=SCHEMAS[DRIFT_SUPPRESSIONS]))
    return str(row["suppression_id"])


def suppressions(store: TableStore, model: str, day: dt.date) -> dict[str, str]:
    """Features of the model that must not alarm on this day, each with the reason."""
    if not store.exists(DRIFT_SUPPRESSIONS):
        return {}
    rows = store.read(DRIFT_SUPPRESSIONS, where=f"model_name = {quoted(model)}").to_pylist()
    return {r["feature"]: f"{r['reason']} (until {r['until']}, {r['actor']})" for r in rows if r["until"] > day}


@dataclasses.dataclass(frozen=True, slots=True)
class Injection:
    """A drift that was put there on purpose. ``versions`` of the shifted table, before and after; empty for a metric row."""

    injection_id: str
    what: str
    versions: tuple[int, int] | None = None


def inject_metric(
    store: TableStore,
    model: str,
    version: str,
    *,
    now: dt.datetime,
    value: float = 0.30,
    metric: str = "psi_overall",
    reference_days: int = 90,
    current_days: int = 7,
) -> Injection:
    """Append one metric row as the tutorial's closed-loop test does; its run id begins with ``injected-``."""
    create_tables(store)
    run_id = INJECTED + uuid.uuid4().hex[:16]
    row = {
        "run_id": run_id, "run_timestamp": now, "model_name": model, "model_version": version, "feature_name": OVERALL,
        "metric_type": metric, "value": value, "threshold": 0.20, "status": "injected",
        "severity": "P1" if value >= 0.25 else "P2", "reference_days": reference_days, "current_days": current_days,
    }  # fmt: skip
    store.append(DRIFT_METRICS, pa.Table.from_pylist([row], schema=SCHEMAS[DRIFT_METRICS]))
    return Injection(run_id, f"{metric} = {value:g} for {model} v{version} in {DRIFT_METRICS}")


def inject_rows(store: TableStore, settings: Drift, model: str, *, feature: str, factor: float, now: dt.datetime) -> Injection:
    """Multiply one feature in the newest window of the model's table by ``factor``: real rows, in a new table version.

    The injection is recorded in ``ml_drift_injections``; `undo_injection` puts the rows back.

    Raises
    ------
    UsageProblem
        No such feature, one that is not a number, or a factor of 1.
    """
    if factor == 1 or not factor > 0:
        raise UsageProblem(f"factor is {factor:g}; it must be above 0 and not 1")
    from pytest_mlgates.services.windows import load_windows

    create_tables(store)
    before = store.version(settings.table)
    rows = store.read(settings.table, version=before)
    if feature not in rows.column_names:
        raise UsageProblem(f"{settings.table} has no column {feature!r}; {nearest(feature, rows.column_names)}")
    kind = rows.schema.field(feature).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UsageProblem(f"{settings.table}.{feature} is {kind}; a shift needs a numeric column")
    window = load_windows(store, settings, columns=[feature], reference=settings.reference_days).current
    time = rows.column(settings.time_column).cast(pa.date32())
    hit = pc.and_(pc.greater_equal(time, pa.scalar(window.first)), pc.less_equal(time, pa.scalar(window.last)))
    column = rows.column(feature).cast(pa.float64())
    shifted = pc.if_else(hit, pc.multiply(column, factor), column)
    index = rows.column_names.index(feature)
    after = store.overwrite(settings.table, rows.set_column(index, feature, shifted))
    injection = f"{INJECTED}{uuid.uuid4().hex[:16]}"
    row = {
        "injection_id": injection, "injected_at": now, "model_name": model, "table_name": settings.table, "feature": feature,
        "factor": factor, "first_date": window.first, "last_date": window.last, "version_before": before,
        "version_after": after, "status": "injected",
    }  # fmt: skip
    store.append(DRIFT_INJECTIONS, pa.Table.from_pylist([row], schema=SCHEMAS[DRIFT_INJECTIONS]))
    what = f"{feature} × {factor:g} on {window.first} → {window.last} in {settings.table} (version {before} → {after})"
    return Injection(injection, what, (before, after))


def open_injections(store: TableStore, model: str) -> list[dict[str, Any]]:
    """Row injections of the model that were not undone, newest first."""
    if not store.exists(DRIFT_INJECTIONS):
        return []
    rows = store.read(DRIFT_INJECTIONS, where=f"model_name = {quoted(model)}").to_pylist()
    undone = {r["injection_id"] for r in rows if r["status"] == "undone"}
    found = [r for r in rows if r["status"] == "injected" and r["injection_id"] not in undone]
    return sorted(found, key=lambda r: r["injected_at"], reverse=True)


def standing_injections(store: TableStore, model: str) -> list[dict[str, Any]]:
    """Open injections whose table has not been written to since: their shifted rows are the ones that are read now."""
    return [r for r in open_injections(store, model) if store.version(r["table_name"]) == r["version_after"]]


def undo_injection(store: TableStore, model: str, *, now: dt.datetime) -> Injection:
    """Put back the rows of the newest injection that was not undone.

    Raises
    ------
    UsageProblem
        There is none.
    LakehouseError
        The table was written to since: putting the old version back would lose those rows.
    """
    found = open_injections(store, model)
    if not found:
        raise UsageProblem(f"no injection into the rows of {model} is open; mlgates drift inject --feature … makes one")
    row = found[0]
    table, before, after = row["table_name"], int(row["version_before"]), int(row["version_after"])
    if store.version(table) != after:
        raise LakehouseError(
            f"{table} is at version {store.version(table)}, the injection made {after}: it was written to since; "
            f"write the rows again from their source"
        )
    newest = store.overwrite(table, store.read(table, version=before))
    undone = {**row, "injected_at": now, "status": "undone", "version_before": after, "version_after": newest}
    store.append(DRIFT_INJECTIONS, pa.Table.from_pylist([undone], schema=SCHEMAS[DRIFT_INJECTIONS]))
    return Injection(str(row["injection_id"]), f"{row['feature']} of {table} is as in version {before} again", (after, newest))


def manual_trigger(store: TableStore, model: str, version: str, *, reason: str, now: dt.datetime) -> str:
    """Append a retrain trigger by hand; return its id. Raises UsageProblem without a reason."""
    if not reason.strip():
        raise UsageProblem("a manual trigger needs a reason; write --reason '…'")
    create_tables(store)
    row = {
        "trigger_id": f"trigger-manual-{uuid.uuid4().hex[:16]}", "triggered_at": now, "model_name": model,
        "model_version": version, "severity": "", "reasons": f"manual: {reason.strip()}", "drift_run_id": "", "status": "open",
    }  # fmt: skip
    store.append(RETRAIN_TRIGGERS, pa.Table.from_pylist([row], schema=SCHEMAS[RETRAIN_TRIGGERS]))
    return str(row["trigger_id"])
