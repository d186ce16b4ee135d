"""Names and columns of every table that this package writes."""

from __future__ import annotations

import re

import pyarrow as pa

FACT = "lh_gold.fact_daily_slot_revenue"
SILVER = "lh_silver.daily_slot_aggregates"
HOLDOUT = "lh_gold.slot_revenue_holdout"
AUDIT = "lh_gold.ml_promotion_audit"
CHALLENGER = "lh_gold.ml_champion_challenger"
FORECASTS = "lh_gold.slot_revenue_forecasts"
DRIFT_METRICS = "lh_gold.ml_drift_metrics"
RETRAIN_TRIGGERS = "lh_gold.ml_retrain_triggers"
DRIFT_INJECTIONS = "lh_gold.ml_drift_injections"
DRIFT_SUPPRESSIONS = "lh_gold.ml_drift_suppressions"
PREDICTION_LOG = "lh_gold.ml_prediction_log"
ALERTS = "lh_gold.ml_alerts"
COST = "lh_gold.ml_cost"
REFERENCE_DISTRIBUTION = "lh_gold.reference_distribution"
TABLE_VERSION = re.compile(r"[0-9]{1,18}")
"""What may stand behind the ``@`` of a pinned table: Delta counts versions in 64 bits."""
REFERENCE_KEYS = ("model_name", "model_version", "run_id", "created_at")

_time = pa.timestamp("us", tz="UTC")
_text = pa.string()
_int = pa.int64()
_float = pa.float64()
_floats = pa.list_(_float)

SCHEMAS: dict[str, pa.Schema] = {
    # the tutorial's columns, then ours; `state` is intent | committed | aborted | refused | observed | archived
    AUDIT: pa.schema(
        [
            ("event_id", _text), ("event_time", _time), ("model_name", _text), ("version", _text), ("from_stage", _text),
            ("to_stage", _text), ("actor", _text), ("git_sha", _text), ("rationale", _text), ("state", _text),
            ("evidence_id", _text), ("seq", _int), ("prev_hash", _text), ("hash", _text),
            ("intent_id", _text), ("fence", _int), ("holder", _text),
        ]
    ),
    CHALLENGER: pa.schema(
        [
            ("eval_date", pa.date32()), ("model_name", _text), ("stage", _text), ("rmse", _float), ("mape", _float),
            ("r2", _float), ("run_id", _text), ("version", _text), ("n", _int), ("pair", _text), ("evaluated_at", _time),
        ]
    ),
    DRIFT_METRICS: pa.schema(
        [
            ("run_id", _text), ("run_timestamp", _time), ("model_name", _text), ("model_version", _text), ("feature_name", _text),
            ("metric_type", _text), ("value", _float), ("threshold", _float), ("status", _text), ("severity", _text),
            ("reference_days", _int), ("current_days", _int),
        ]
    ),
    RETRAIN_TRIGGERS: pa.schema(
        [
            ("trigger_id", _text), ("triggered_at", _time), ("model_name", _text), ("model_version", _text), ("severity", _text),
            ("reasons", _text), ("drift_run_id", _text), ("status", _text),
        ]
    ),
    # `status` is injected | undone; the versions are those of the table whose rows were shifted
    DRIFT_INJECTIONS: pa.schema(
        [
            ("injection_id", _text), ("injected_at", _time), ("model_name", _text), ("table_name", _text), ("feature", _text),
            ("factor", _float), ("first_date", pa.date32()), ("last_date", pa.date32()), ("version_before", _int),
            ("version_after", _int), ("status", _text),
        ]
    ),
    DRIFT_SUPPRESSIONS: pa.schema(
        [
            ("suppression_id", _text), ("created_at", _time), ("model_name", _text), ("feature", _text), ("reason", _text),
            ("until", pa.date32()), ("actor", _text),
        ]
    ),
    # a row a column of the rows that a version was trained on (`drift.stored`): its profile, then its rows per day and cell
    REFERENCE_DISTRIBUTION: pa.schema(
        [
            ("model_name", _text), ("model_version", _text), ("run_id", _text), ("created_at", _time),
            ("column", _text), ("kind", _text), ("rows", _float), ("missing", _float), ("infinite", _float),
            ("edges", _floats), ("less", _floats), ("equal", _floats), ("sums", _floats), ("moments", _floats),
            ("categories", pa.list_(_text)), ("counts", _floats), ("other", _float), ("truncated", pa.bool_()),
            ("cell_names", pa.list_(_text)), ("cell_numbers", _floats), ("cell_discrete", pa.bool_()),
            ("days", pa.list_(_int)), ("day_counts", _floats),
        ]
    ),
    FORECASTS: pa.schema(
        [
            ("property_id", _int), ("play_date", pa.date32()), ("predicted_revenue", _float), ("model_name", _text),
            ("model_version", _text), ("run_id", _text), ("scored_at", _time),
        ]
    ),
    PREDICTION_LOG: pa.schema(
        [
            ("request_id", _text), ("logged_at", _time), ("model_name", _text), ("model_version", _text), ("inputs", _text),
            ("prediction", _float), ("latency_ms", _float), ("answer", _text),
        ]
    ),
    # `event` is fired | escalated | resolved | suppressed | delivered | failed | dead | test | summary; a delivery says in
    # `about` what it delivered, and `window_start` is the first bin of the incident (of a resolution: the bin that ended it)
    ALERTS: pa.schema(
        [
            ("alert_id", _text), ("event_time", _time), ("event", _text), ("rule", _text), ("model_name", _text),
            ("severity", _text), ("value", _float), ("threshold", _float), ("channel", _text), ("message", _text),
            ("drift_run_id", _text), ("about", _text), ("window_start", _time), ("metric", _text),
        ]
    ),
    # one row a run; `status` is ok | failed; `surface` is training | endpoint | drift | batch | storage
    COST: pa.schema(
        [
            ("run_id", _text), ("recorded_at", _time), ("surface", _text), ("model", _text), ("cost_center", _text),
            ("intent", _text), ("seconds", _float), ("bytes", _int), ("calls", _int),
            ("errors", _int), ("status", _text), ("version", _text),
        ]
    ),
}  # fmt: skip

APPEND_ONLY = frozenset(
    {AUDIT, DRIFT_METRICS, RETRAIN_TRIGGERS, ALERTS, DRIFT_INJECTIONS, DRIFT_SUPPRESSIONS, COST, REFERENCE_DISTRIBUTION}
)
