"""What the operations page shows, read from the tables and the registry into one plain document.

The page takes every number from this document, and each part of it says which table it is from. Nothing is written.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_mlgates import cost
from pytest_mlgates.promotion.contest import Day, judge
from pytest_mlgates.promotion.machine import PRODUCTION, STAGING
from pytest_mlgates.results import plain
from pytest_mlgates.services.drift_records import LABEL, OVERALL, PREDICTION
from pytest_mlgates.services.stages import Stages
from pytest_mlgates.tables import ALERTS, CHALLENGER, COST, DRIFT_METRICS, FORECASTS, PREDICTION_LOG

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import AuditTrail, ModelRegistry, TableStore

DAYS = 365
MOST_RUNS = 400
MOST_ROWS = 60
LOGGED_CALLS = 100_000
"""Newest rows of the prediction log that latencies are taken from."""
_WHOLE = (OVERALL, PREDICTION, LABEL)


def gather(
    registry: ModelRegistry, store: TableStore, audit: AuditTrail, settings: Settings, *, now: dt.datetime, days: int = DAYS
) -> dict[str, Any]:
    """Return the document: JSON-ready values by part.

    Parameters
    ----------
    days
        How far back the page looks.
    """
    since = now - dt.timedelta(days=days)
    document = {
        "created": now.isoformat(timespec="seconds"),
        "days": days,
        "serving": _serving(registry, settings),
        "races": _races(store, settings),
        "drift": _drift(store, since),
        "alerts": _alerts(store, since),
        "promotions": _promotions(audit, since),
        "endpoint": _endpoint(store, since),
        "batch": _batch(store, since),
        "cost": _cost(store, settings, since),
    }
    document["state"] = state(document)
    found: dict[str, Any] = plain(document)
    return found


def state(document: Mapping[str, Any]) -> dict[str, Any]:
    """How things stand in few numbers, and what wants somebody's attention, in words."""
    serving = sum(len(row["production"]) for row in document["serving"])
    drifting = sum(row["status"] == "drift" for one in document["drift"] for row in one["latest"])
    newest = {row["model"]: row["status"] for row in reversed(document["batch"])}
    failed = sorted(model for model, status in newest.items() if status == "failed")
    readiness = document.get("readiness")
    unready = None if not readiness else sum(i["verdict"] != "pass" for one in readiness for i in one["items"])
    troubles = [
        words
        for holds, words in (
            (not serving, "no version is in Production"),
            (document["alerts"]["open"], "incidents are open"),
            (drifting, "features drift"),
            (failed, "the newest batch run failed"),
            (unready, "readiness is not complete"),
        )
        if holds
    ]
    return {"in_production": serving, "drifting": drifting, "unready": unready, "troubles": troubles}


def _read(
    store: TableStore, table: str, columns: Sequence[str] | None = None, where: str | None = None
) -> list[dict[str, Any]]:
    """Rows of a table; none where it is absent."""
    if not store.exists(table):
        return []
    rows: list[dict[str, Any]] = store.read(table, columns=columns, where=where).to_pylist()
    return rows


def _since(column: str, moment: dt.datetime) -> str:
    return f"{column} >= TIMESTAMP '{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}'"


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _serving(registry: ModelRegistry, settings: Settings) -> list[dict[str, Any]]:
    """Per model the versions in Production and Staging, and what their evidence says."""
    out = []
    for name in registry.names():
        stages = Stages(registry, name, settings.policy.stage_mode)
        versions = registry.versions(name)
        row: dict[str, Any] = {"model": name, "versions": len(versions), "production": [], "staging": []}
        for version in versions:
            where = {PRODUCTION: "production", STAGING: "staging"}.get(stages.of(version))
            if where is not None:
                row[where].append(
                    {
                        "version": version.version,
                        "run_id": version.run_id,
                        "created": _iso(version.created),
                        "verdict": version.tags.get("mlgates.verdict", ""),
                        "evidence": version.tags.get("mlgates.evidence_id", ""),
                    }
                )
        out.append(row)
    return out


def _races(store: TableStore, settings: Settings) -> list[dict[str, Any]]:
    """Every pair that was compared, the one with the newest day first: daily losses, wins, e-value."""
    pairs: dict[str, dict[dt.date, dict[str, float]]] = {}
    for row in _read(store, CHALLENGER, ["pair", "eval_date", "stage", "rmse"]):
        pairs.setdefault(str(row["pair"]), {}).setdefault(row["eval_date"], {})[row["stage"]] = row["rmse"]
    per_champion: dict[str, int] = {}
    for pair in pairs:
        champion = pair.partition(" vs ")[0]
        per_champion[champion] = per_champion.get(champion, 0) + 1
    out = []
    for pair, scores in pairs.items():
        champion, _, challenger = pair.partition(" vs ")
        days = [
            Day(date, both[PRODUCTION], both[STAGING])
            for date, both in sorted(scores.items())
            if {PRODUCTION, STAGING} <= set(both)
        ]
        if not days:
            continue
        race = judge(
            days,
            wins_required=settings.policy.consecutive_wins,
            min_e_value=settings.policy.min_e_value,
            challengers=per_champion[champion],
        )
        out.append(
            {
                "champion": champion, "challenger": challenger, "summary": race.summary, "agrees": race.agrees,
                "days": race.days, "wins": race.wins, "best_streak": race.best_streak, "e_value": race.e_value,
                "best_e_value": race.best_e_value, "e_required": race.e_required,
                "losses": [{"date": str(d.date), "champion": d.champion, "challenger": d.challenger} for d in days[-DAYS:]],
            }
        )  # fmt: skip
    return sorted(out, key=lambda race: race["losses"][-1]["date"], reverse=True)


def _drift(store: TableStore, since: dt.datetime) -> list[dict[str, Any]]:
    """Per model: its runs in time, the features, PSI and status by feature and run, and the newest run in full."""
    if not store.exists(DRIFT_METRICS):
        return []
    columns = [
        "run_id",
        "run_timestamp",
        "model_name",
        "model_version",
        "feature_name",
        "metric_type",
        "value",
        "status",
        "severity",
    ]
    where = f"metric_type IN ('psi', 'q', 'psi_overall') AND {_since('run_timestamp', since)}"
    frame = store.read(DRIFT_METRICS, columns=columns, where=where).to_pandas()
    out = []
    for model, mine in frame.groupby("model_name", sort=True):
        runs = mine[["run_id", "run_timestamp", "model_version"]].drop_duplicates("run_id").sort_values("run_timestamp")
        runs = runs.tail(MOST_RUNS)
        psi = mine[(mine.metric_type == "psi") & ~mine.feature_name.isin(_WHOLE) & mine.run_id.isin(runs.run_id)]
        psi = psi.drop_duplicates(["feature_name", "run_id"], keep="last")
        values = psi.pivot(index="feature_name", columns="run_id", values="value").reindex(columns=runs.run_id)
        states = psi.pivot(index="feature_name", columns="run_id", values="status").reindex(columns=runs.run_id)
        last = runs.run_id.iloc[-1]
        newest = mine[mine.run_id == last]
        by_metric = {m: dict(zip(g.feature_name, g.value, strict=True)) for m, g in newest.groupby("metric_type")}
        overall = by_metric.get("psi_overall", {}).get(OVERALL)
        told = newest[newest.metric_type == "psi"]
        out.append(
            {
                "model": str(model),
                "runs": [
                    {"run_id": r, "at": _iso(t.to_pydatetime()), "version": v} for r, t, v in runs.itertuples(index=False)
                ],
                "features": [str(f) for f in values.index],
                "cells": _cells(values.to_numpy(dtype=float), states.to_numpy(dtype=object)),
                "psi_overall": overall,
                "latest": [
                    {"feature": f, "psi": v, "q": by_metric.get("q", {}).get(f), "status": s, "severity": x}
                    for f, v, s, x in zip(told.feature_name, told.value, told.status, told.severity, strict=True)
                ],
            }
        )
    return out


def _cells(psi: Any, status: Any) -> list[list[int]]:
    """Tone of each cell: 0 quiet, 1 PSI from 0.1, 2 PSI from 0.2, 3 drift beyond chance, 4 no verdict, -1 no row."""
    tone = np.where(psi >= 0.2, 2, np.where(psi >= 0.1, 1, 0))
    tone = np.where(status == "drift", 3, tone)
    tone = np.where(np.isnan(psi) | (status == "insufficient"), 4, tone)
    present = np.array([[isinstance(s, str) for s in row] for row in status], dtype=bool).reshape(psi.shape)
    cells: list[list[int]] = np.where(present, tone, -1).tolist()
    return cells


def _alerts(store: TableStore, since: dt.datetime) -> dict[str, Any]:
    """Incidents with what became of them, newest first, and deliveries that failed."""
    rows = sorted(_read(store, ALERTS, where=_since("event_time", since)), key=lambda r: r["event_time"])
    incidents: dict[str, dict[str, Any]] = {}
    failed = 0
    for row in rows:
        event = row["event"]
        failed += event in ("failed", "dead")
        if event == "fired":
            incidents[row["alert_id"]] = {
                "alert_id": row["alert_id"], "fired": _iso(row["event_time"]), "rule": row["rule"], "model": row["model_name"],
                "severity": row["severity"], "metric": row["metric"], "value": row["value"], "threshold": row["threshold"],
                "resolved": None, "delivered": 0, "suppressed": False,
            }  # fmt: skip
        found = incidents.get(row["alert_id"])
        if found is None:
            continue
        if event == "resolved":
            found["resolved"] = _iso(row["event_time"])
        elif event == "escalated":
            found["severity"] = row["severity"]
        elif event == "delivered":
            found["delivered"] += 1
        elif event == "suppressed":
            found["suppressed"] = True
    newest = sorted(incidents.values(), key=lambda i: i["fired"], reverse=True)
    return {
        "incidents": newest[:MOST_ROWS],
        "count": len(newest),
        "open": sum(i["resolved"] is None for i in newest),
        "failed_deliveries": failed,
    }


def _promotions(audit: AuditTrail, since: dt.datetime) -> list[dict[str, Any]]:
    """Rows of the audit, newest first; an intent that was closed is told by its closing row."""
    rows = [r for r in audit.rows() if r.event_time >= since]
    closed = {r.event.fence for r in rows if r.event.state in ("committed", "aborted")}
    told = [r for r in rows if not (r.event.state == "intent" and r.seq in closed)]
    return [
        {
            "seq": r.seq, "at": _iso(r.event_time), "model": r.event.model_name, "version": r.event.version,
            "from": r.event.from_stage, "to": r.event.to_stage, "state": r.event.state, "actor": r.event.actor,
            "rationale": r.event.rationale, "evidence": r.event.evidence_id,
        }
        for r in reversed(told[-MOST_ROWS:])
    ]  # fmt: skip


def _endpoint(store: TableStore, since: dt.datetime) -> list[dict[str, Any]]:
    """Per model and version that answered: calls, latency percentiles over the newest calls, errors of its servers."""
    if not store.exists(PREDICTION_LOG):
        return []
    where = f"latency_ms IS NOT NULL AND {_since('logged_at', since)}"
    frame = store.read(
        PREDICTION_LOG, columns=["logged_at", "model_name", "model_version", "latency_ms"], where=where
    ).to_pandas()
    frame = frame[frame.latency_ms > 0]
    runs = _read(store, COST, where="surface = 'endpoint'")
    out = []
    for (model, version), mine in frame.groupby(["model_name", "model_version"], sort=True):
        newest = mine.sort_values("logged_at").tail(LOGGED_CALLS)
        p50, p95, p99 = (float(v) for v in np.quantile(newest.latency_ms.to_numpy(), (0.5, 0.95, 0.99)))
        edges, counts = _log_bins(newest.latency_ms.to_numpy())
        own = [r for r in runs if r["model"] == model]
        out.append(
            {
                "model": model, "version": version, "calls": len(mine), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
                "last": _iso(newest.logged_at.iloc[-1].to_pydatetime()), "edges_ms": edges, "counts": counts,
                "servers": len(own), "requests": sum(r["calls"] or 0 for r in own), "errors": sum(r["errors"] or 0 for r in own),
            }
        )  # fmt: skip
    return out


def _log_bins(ms: Any, bins: int = 24) -> tuple[list[float], list[int]]:
    low, high = float(ms.min()), float(ms.max())
    edges = np.geomspace(max(low, 1e-3), max(high, low * 1.01, 2e-3), bins + 1)
    counts, _ = np.histogram(np.clip(ms, edges[0], edges[-1]), edges)
    return [float(f"{e:.5g}") for e in edges], [int(c) for c in counts]


def _batch(store: TableStore, since: dt.datetime) -> list[dict[str, Any]]:
    """Batch scoring runs, newest first: rows written by each, and whether the run ended well."""
    if not store.exists(FORECASTS):
        return []
    frame = store.read(
        FORECASTS, columns=["run_id", "model_name", "model_version", "scored_at"], where=_since("scored_at", since)
    ).to_pandas()
    ended = {r["run_id"]: r for r in _read(store, COST, where="surface = 'batch'")}
    out = []
    for (run, model, version), mine in frame.groupby(["run_id", "model_name", "model_version"], sort=False):
        mark = ended.pop(run, {})
        out.append(
            {"run_id": run, "model": model, "version": version, "rows": len(mine), "at": _iso(mine.scored_at.max().to_pydatetime()),
             "seconds": mark.get("seconds"), "status": mark.get("status", "")}
        )  # fmt: skip
    out += [
        {"run_id": r["run_id"], "model": r["model"], "version": r["version"], "rows": 0, "at": _iso(r["recorded_at"]),
         "seconds": r["seconds"], "status": r["status"]}
        for r in ended.values()
        if r["recorded_at"] >= since
    ]  # fmt: skip
    return sorted(out, key=lambda r: str(r["at"]), reverse=True)[:MOST_ROWS]


def _cost(store: TableStore, settings: Settings, since: dt.datetime) -> dict[str, Any]:
    """Amounts by surface and by tags; work without a tag is named so. Sums are exact: a table's rows come in no order."""
    rows = cost.money(_read(store, COST, where=_since("recorded_at", since)), settings.cost)
    surfaces = {
        name: {
            "amount": math.fsum(r["amount"] for r in mine), "seconds": math.fsum(r["seconds"] or 0.0 for r in mine),
            "runs": len(mine), "calls": sum(r["calls"] or 0 for r in mine),
            "bytes": max((r["bytes"] or 0 for r in _newest(mine)), default=0),
        }
        for name in cost.SURFACES
        for mine in [[r for r in rows if r["surface"] == name]]
    }  # fmt: skip
    tiles: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        center = row["cost_center"] or settings.cost.center(row["model"] or "") or cost.UNTAGGED
        key = (
            center,
            row["model"] or ("all tables" if row["surface"] == "storage" else cost.UNTAGGED),
            row["intent"] or cost.UNTAGGED,
        )
        tiles.setdefault(key, []).append(row["amount"])
    return {
        "currency": settings.cost.currency,
        "rates": settings.cost.model_dump(exclude={"centers", "currency"}),
        "surfaces": surfaces,
        "total": math.fsum(r["amount"] for r in rows),
        "tiles": [
            {"cost_center": c, "model": m, "intent": i, "amount": a}
            for a, (c, m, i) in sorted(((math.fsum(v), k) for k, v in tiles.items()), key=lambda one: (-one[0], one[1]))
        ][:MOST_ROWS],
    }


def _newest(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The newest row alone: bytes are a state, not a sum."""
    return sorted(rows, key=lambda r: r["recorded_at"])[-1:]
