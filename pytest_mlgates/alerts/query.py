"""A rule's query over the drift metrics, in DuckDB over Arrow."""

from __future__ import annotations

import datetime as dt
import fnmatch
import math
from typing import TYPE_CHECKING, Any

import duckdb

from pytest_mlgates.alerts.rules import Bin

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule
    from pytest_mlgates.ports import TableStore

_COLUMNS = ("run_id", "run_timestamp", "model_name", "model_version", "metric_type", "value", "current_days")
LOOP_RULE = "mlgates-loop-"
"""A rule of a closed-loop test sees the rows that this test injected and no others; every other rule sees all but those."""
LIVE_LOOP_RULE = LOOP_RULE + "live-"
"""A rule of a closed-loop test on the deployed parts: its messages go where the model's own rule sends them."""
LOOP_ROWS = "injected-loop-"
"""Run ids of the rows that a closed-loop test injects; the name of its rule ends in the rest of the id."""
_CERTAINTY = {
    "injected": "not at all: the row was injected to test the loop, nothing was measured",
    "drift": "beyond chance, by the drift run's own test",
    "insufficient": "not sure: too few rows to rule out chance",
    "stable": "chance may explain it, by the drift run's own test",
}
"""What the status of a metric row says about its figure."""
_CLOCK_SKEW = dt.timedelta(minutes=5)
_AGGREGATES = {"max": "max(value)", "min": "min(value)", "avg": "avg(value)", "median": "median(value)"}

# NaN is what a drift run writes on thin data: no verdict, so no bin
_SQL = """
    SELECT model_name, epoch_us(run_timestamp) // $width * $width AS bin, {aggregate} AS value,
           arg_max(metric_type, value), arg_max(run_id, value), arg_max(model_version, value)
    FROM metrics
    WHERE starts_with(coalesce(run_id, ''), $loop_rows) = $is_loop
      AND list_contains($metrics, metric_type) AND current_days = $window AND isfinite(value)
    GROUP BY model_name, bin
    ORDER BY model_name, bin
"""


def bins_by_model(store: TableStore, rule: AlertRule, *, since: dt.datetime, now: dt.datetime) -> dict[str, list[Bin]]:
    """Return the rule's bins from ``since`` on, per model, in order of time.

    Rows stamped more than five minutes after ``now`` are left out. An absent table has no bins; a table without the columns
    raises LakehouseError.
    """
    if not store.exists(rule.table):
        return {}
    upto = now + _CLOCK_SKEW
    where = f"run_timestamp >= '{_iso(since)}' AND run_timestamp <= '{_iso(upto)}'"
    rows = store.read(rule.table, columns=_COLUMNS, where=where)
    width = rule.bin_minutes * 60_000_000
    is_loop = rule.name.startswith(LOOP_RULE)
    loop_rows = LOOP_ROWS + (rule.name.removeprefix(LOOP_RULE) if is_loop else "")
    with duckdb.connect() as connection:
        connection.register("metrics", rows)
        found = connection.execute(
            _SQL.format(aggregate=_AGGREGATES[rule.aggregate]),
            {
                "width": width,
                "metrics": list(rule.metrics),
                "window": rule.window_days,
                "loop_rows": loop_rows,
                "is_loop": is_loop,
            },
        ).fetchall()
    out: dict[str, list[Bin]] = {}
    for model, start, value, metric, run_id, version in found:
        if fnmatch.fnmatchcase(model, rule.model):
            moment = dt.datetime.fromtimestamp(start / 1e6, dt.UTC)
            out.setdefault(model, []).append(Bin(moment, float(value), metric or "", run_id or "", version or ""))
    return out


def drifted_features(store: TableStore, table: str, run_id: str, *, at_most: int = 5) -> list[dict[str, Any]]:
    """Return the columns of a drift run by PSI, largest first: ``feature``, ``psi``, ``status`` and, where known, ``q``.

    ``q`` is the false-discovery-adjusted p-value. Empty where the run has no such rows.
    """
    if not run_id or not store.exists(table):
        return []
    rows = store.read(
        table,
        columns=["feature_name", "metric_type", "value", "status"],
        where=f"run_id = '{_quoted(run_id)}' AND metric_type IN ('psi', 'q')",
    ).to_pylist()
    known = [r for r in rows if r["value"] is not None and math.isfinite(r["value"])]
    chance = {r["feature_name"]: float(r["value"]) for r in known if r["metric_type"] == "q"}
    ranked = sorted((r for r in known if r["metric_type"] == "psi"), key=lambda r: -r["value"])[:at_most]
    return [
        {"feature": r["feature_name"], "psi": float(r["value"]), "status": r["status"] or ""}
        | ({"q": chance[r["feature_name"]]} if r["feature_name"] in chance else {})
        for r in ranked
    ]


def certainty(store: TableStore, table: str, run_id: str, metric: str) -> str:
    """Return how sure the figure is that an alert rests on, in words; empty where the row does not say."""
    if not run_id or not metric or not store.exists(table):
        return ""
    where = f"run_id = '{_quoted(run_id)}' AND metric_type = '{_quoted(metric)}'"
    states = {r["status"] for r in store.read(table, columns=["status"], where=where).to_pylist()}
    return next((words for status, words in _CERTAINTY.items() if status in states), "")


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds")
