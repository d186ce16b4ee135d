"""Settings of the reference project: the slot revenue forecast and the lending model."""

from __future__ import annotations

import json
from collections.abc import Sequence

BASELINE = "casino-slot-revenue-forecast-baseline"
CHALLENGER = "casino-slot-revenue-forecast-challenger"

_TEXT = """\
# Settings of the reference project. Thresholds live here and nowhere else.
tracking_uri = {tracking_uri}
lakehouse = {lakehouse}

[models."casino-slot-revenue-forecast-*"]
task = "regression"
target = "revenue"
holdout = "lh_gold.slot_revenue_holdout"
baseline = "models:/casino-slot-revenue-forecast-baseline/Production"
domain = "casino"
regulated = false
sensitive = []
on_inconclusive = "block"

[models."casino-slot-revenue-forecast-*".gates]
performance = {{ metric = "r2", min_ratio = 0.95, floor = 0.60 }}
holdout     = {{ max_gap = 0.05 }}
fairness    = {{ min_parity_ratio = 0.8 }}
latency     = {{ p99_max_ms = 200, calls = 1000 }}
calibration = {{ max_ece = 0.10, bins = 10 }}

[models."casino-slot-revenue-forecast-*".drift]
table = "lh_gold.slot_revenue_features"
time_column = "play_date"
reference_days = 90
current_days = 7

[models."casino-slot-revenue-forecast-*".retrain]
command = [{retrain}]

# trained by pipelines/train_lending.py on real mortgage applications; regulated, so gate 3 applies
[models."loan-approval*"]
task = "binary"
target = "approve"
holdout = "lh_gold.loan_holdout"
baseline = "models:/loan-approval-baseline/latest"
domain = "lending"
regulated = true
sensitive = ["race", "male", "married"]

[models."loan-approval*".gates]
performance = {{ metric = "auc", min_ratio = 0.95, floor = 0.60 }}

# where messages lead to the run of a retraining: here, where `mlflow ui` listens by default
[alerts]
run_link = "http://127.0.0.1:5000/#/runs/{{run_id}}"

[[alerts.rules]]
name = "drift"
model = "casino-slot-revenue-forecast-challenger"
metrics = ["psi_overall", "performance_rmse_delta_pct"]
window_days = 7
threshold = 0.20
group = "ag-mlops-drift"

# the receiver (mlgates alerts serve) starts the retraining; mail and Teams channels go beside it
[alerts.groups.ag-mlops-drift]
channels = [{{ kind = "webhook", name = "retrain", url = "http://127.0.0.1:{port}/alerts" }}]

# what runs are tagged with where they name no cost centre themselves; rates are in [cost] too
[cost]
centers = {{ "casino-slot-revenue-forecast-*" = "casino-analytics" }}
"""


def settings_text(*, tracking_uri: str, lakehouse: str, port: int, retrain: Sequence[str]) -> str:
    """Return the text of ``mlgates.toml``.

    Parameters
    ----------
    port
        Where the alert receiver listens on 127.0.0.1.
    retrain
        The command that an alert starts, word by word.
    """
    return _TEXT.format(
        tracking_uri=_quoted(tracking_uri),
        lakehouse=_quoted(lakehouse),
        port=port,
        retrain=", ".join(_quoted(word) for word in retrain),
    )


def _quoted(text: str) -> str:
    """A TOML basic string; JSON escapes are a subset of its own."""
    return json.dumps(text, ensure_ascii=False)
