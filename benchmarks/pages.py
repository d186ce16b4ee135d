"""Size and CPU seconds of the two pages at full size: ``python benchmarks/pages.py``.

The report: evidence of 1,000,000 rows, 50 features, 200 slices. The operations page: 365 days x 50 features x 5 models.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pytest_mlgates import checks, config, evidence
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.report.html import evidence_report
from pytest_mlgates.report.operations import operations_page
from pytest_mlgates.results import RunReport
from pytest_mlgates.services.operations import gather
from pytest_mlgates.tables import DRIFT_METRICS, SCHEMAS

ROWS, FEATURES, SLICES = 1_000_000, 50, 200
DAYS, MODELS = 365, 5


def sealed() -> evidence.Evidence:
    """Evidence of real checks over made-up rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    p = 1 / (1 + np.exp(-x))
    y = rng.random(ROWS) < p
    frame = pd.DataFrame({f"f{i}": rng.integers(0, 4, ROWS) for i in range(FEATURES)})
    slices = pd.DataFrame({"segment": rng.integers(0, SLICES, ROWS).astype(str)})
    groups = pd.DataFrame({"race": rng.integers(0, 5, ROWS).astype(str)})
    results = (
        checks.performance(y, p, 1 / (1 + np.exp(-0.7 * x)), metric="auc", task="binary"),
        checks.fairness(y, p, groups, task="binary"),
        checks.latency(rng.lognormal(-4, 0.5, 16_000)),
        checks.calibration(y, p, task="binary", slices=slices),
        checks.weak_slices(y, p, frame, task="binary"),
    )
    report = RunReport("model", "3", results, tuple(r.gate for r in results))
    return evidence.build(
        report,
        model={"name": "model", "version": "3", "run_id": "r", "artifact_digest": "sha256:a"},
        holdout={"table": "lh_gold.holdout", "version": 3, "digest": "sha256:h", "rows": ROWS},
        baseline=None,
        settings_digest="sha256:s",
        git={"sha": "abc", "dirty": False},
        environment={},
        created=dt.datetime.now(dt.UTC),
    )


class _Nothing:
    uri = "none"

    def names(self) -> list[str]:
        return []

    def rows(self) -> list[Any]:
        return []


def document(folder: str) -> dict[str, Any]:
    """The document of a year of drift runs, noise in every cell."""
    store = Lakehouse(folder)
    store.create(DRIFT_METRICS, SCHEMAS[DRIFT_METRICS])
    rng = np.random.default_rng(0)
    now = dt.datetime.now(dt.UTC)
    days = np.repeat(np.arange(DAYS), FEATURES)
    for model in range(MODELS):
        for metric in ("psi", "q"):
            frame = pd.DataFrame(
                {
                    "run_id": [f"{model}-{d}" for d in days],
                    "run_timestamp": [now - dt.timedelta(days=DAYS - 1 - int(d), hours=1) for d in days],
                    "model_name": f"model-{model}", "model_version": "1",
                    "feature_name": [f"feature_{i}" for i in np.tile(np.arange(FEATURES), DAYS)], "metric_type": metric,
                    "value": rng.gamma(1.0, 0.1, len(days)), "threshold": 0.1, "status": "stable", "severity": "",
                    "reference_days": 90, "current_days": 7,
                }
            )  # fmt: skip
            store.append(DRIFT_METRICS, pa.Table.from_pandas(frame, preserve_index=False))
    settings = config.parse_settings({"models": {"m": {"task": "regression", "target": "y", "holdout": "h.csv"}}})
    begin = time.process_time()
    found = gather(_Nothing(), store, _Nothing(), settings, now=now)  # type: ignore[arg-type]
    print(f"operations, read       {time.process_time() - begin:6.2f} CPU s")
    return found


def main() -> None:
    """Print the figures."""
    data = sealed().to_bytes()
    begin = time.process_time()
    page = evidence_report(evidence.parse(data))
    print(
        f"report                 {time.process_time() - begin:6.2f} CPU s  {len(page.encode()):>9,} bytes (evidence {len(data):,})"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = document(folder)
    begin = time.process_time()
    page = operations_page(found)
    print(f"operations, rendered   {time.process_time() - begin:6.2f} CPU s  {len(page.encode()):>9,} bytes")


if __name__ == "__main__":
    main()
