"""The operations page: every number equals the table that it comes from."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pytest_mlgates import config, cost
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.pages import operations
from pytest_mlgates.report.operations import operations_page
from pytest_mlgates.services.operations import gather
from pytest_mlgates.tables import ALERTS, CHALLENGER, COST, DRIFT_METRICS, FORECASTS, PREDICTION_LOG, SCHEMAS
from pytest_mlgates.wiring import Project

from .traced import read, untrue


@pytest.fixture(scope="module")
def told(ready_once):
    """The document, the page's marked values, and the tables as frames."""
    world = ready_once.world
    now = dt.datetime.now(dt.UTC)
    document = gather(world.registry, world.lake, world.audit, world.settings, now=now)
    page = read(operations_page(document))
    frames = {t: world.lake.read(t).to_pandas() for t in (ALERTS, CHALLENGER, COST, DRIFT_METRICS, FORECASTS, PREDICTION_LOG)}
    return document, page, frames


def test_numbers_are_the_documents(told):
    """Each value on the page stands in the document at the path that it names."""
    document, page, _ = told
    assert len(page.found) > 200
    assert untrue(page, document) == []


def test_the_document_is_the_tables(told, ready_once):
    """Drift, race, alerts, endpoint, batch and audit, computed here once more from the tables by other means."""
    document, _, frames = told
    drift = frames[DRIFT_METRICS]
    last = drift[drift.run_id == "run-7"]
    psi = last[last.metric_type == "psi"].set_index("feature_name").value.to_dict()
    assert {row["feature"]: row["psi"] for row in document["drift"][0]["latest"]} == psi
    assert len(document["drift"][0]["runs"]) == drift.run_id.nunique()
    race = frames[CHALLENGER].pivot(index="eval_date", columns="stage", values="rmse")
    assert document["races"][0]["wins"] == int((race["Staging"] < race["Production"]).sum())
    assert [day["champion"] for day in document["races"][0]["losses"]] == race.sort_index()["Production"].tolist()
    assert document["alerts"]["count"] == int((frames[ALERTS].event == "fired").sum())
    log = frames[PREDICTION_LOG]
    assert document["endpoint"][0]["calls"] == len(log)
    assert document["endpoint"][0]["p99_ms"] == pytest.approx(np.quantile(log.latency_ms, 0.99))
    assert {r["run_id"]: r["rows"] for r in document["batch"] if r["rows"]} == frames[FORECASTS].run_id.value_counts().to_dict()
    assert [p["seq"] for p in document["promotions"]] == [r.seq for r in reversed(ready_once.world.audit.rows())]


def test_cost_is_seconds_times_rate(told, ready_once):
    """Amounts by surface and by tag come to the same total; storage is bytes times time."""
    document, _, frames = told
    rates = ready_once.world.settings.cost
    table = frames[COST]
    training = table[table.surface == "training"].seconds.sum() / 3600 * rates.training_per_hour
    found = document["cost"]
    assert found["surfaces"]["training"]["amount"] == pytest.approx(training)
    storage = 5.0 * rates.storage_per_gb_month * 7 / 30
    assert found["surfaces"]["storage"]["amount"] == pytest.approx(storage, rel=1e-6)
    assert sum(s["amount"] for s in found["surfaces"].values()) == pytest.approx(found["total"])
    assert sum(t["amount"] for t in found["tiles"]) == pytest.approx(found["total"])
    assert {t["cost_center"] for t in found["tiles"]} == {"cc-1"}


def test_readiness_is_on_the_page(ready_once):
    """The page that users get has the twelve items of each model in the settings."""
    text = operations(Project.open(ready_once.world.folder / "mlgates.toml"))
    assert "postmortem template" in text


def test_a_run_measures_itself(tmp_path):
    """One row a run: seconds, counts and how it ended, also where it raised."""
    store = Lakehouse(tmp_path)
    with cost.metered(store, "batch", "m", env={"COST_CENTER": "cc", "MLFLOW_RUN_INTENT": "baseline"}) as meter:
        meter.calls = 3
    with pytest.raises(ZeroDivisionError), cost.metered(store, "drift", "m", env={}):
        _ = 1 / 0
    cost.record_storage(store)
    rows = {r["surface"]: r for r in store.read(COST).to_pylist()}
    assert (rows["batch"]["status"], rows["batch"]["cost_center"], rows["batch"]["intent"], rows["batch"]["calls"]) == (
        "ok",
        "cc",
        "baseline",
        3,
    )
    assert rows["drift"]["status"] == "failed"
    assert rows["storage"]["bytes"] > 0
    untagged = cost.money([rows["drift"]], config.Cost())
    assert untagged[0]["amount"] == pytest.approx(rows["drift"]["seconds"] / 3600 * 0.40)


def test_an_empty_project_says_what_is_missing(world):
    """No table at all: the page says how each comes about, and nothing breaks."""
    done = world.mlgates("dashboard", "--out", str(world.folder / "page.html"))
    assert done.returncode == 0, done.stderr
    text = (world.folder / "page.html").read_text("utf-8")
    for words in ("no drift run yet", "no pair was compared yet", "no alert fired", "the audit has no row"):
        assert words in text


def test_a_year_of_fifty_features_weighs_little(tmp_path):
    """365 days x 50 features x 5 models of noise, every third cell in colour: under 1.5 MB."""
    store = Lakehouse(tmp_path)
    store.create(DRIFT_METRICS, SCHEMAS[DRIFT_METRICS])
    rng = np.random.default_rng(0)
    now = dt.datetime.now(dt.UTC)
    days = np.repeat(np.arange(365), 50)
    for model in range(5):
        frame = pd.DataFrame(
            {
                "run_id": [f"{model}-{d}" for d in days], "run_timestamp": [now - dt.timedelta(days=364 - int(d), hours=1) for d in days],
                "model_name": f"model-{model}", "model_version": "1", "feature_name": [f"feature_{i}" for i in np.tile(np.arange(50), 365)],
                "metric_type": "psi", "value": rng.gamma(1.0, 0.1, len(days)), "threshold": 0.1, "status": "stable", "severity": "",
                "reference_days": 90, "current_days": 7,
            }
        )  # fmt: skip
        store.append(DRIFT_METRICS, pa.Table.from_pandas(frame, preserve_index=False))

    class Nothing:
        uri = "none"

        def names(self):
            return []

        def rows(self):
            return []

    settings = config.parse_settings({"models": {"m": {"task": "regression", "target": "y", "holdout": "h.csv"}}})
    page = operations_page(gather(Nothing(), store, Nothing(), settings, now=now))
    assert len(page.encode()) < 1_500_000
    assert page.count('class="strip"') == 250
    assert page.count('class="cell') <= 250 * 4  # a path a tone, never one a cell
