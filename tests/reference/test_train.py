"""Training: what is registered, what is recorded, and that the holdout stays out."""

import io
import json
import os
import re

import mlflow
import numpy as np
import pandas as pd
import pytest

from pytest_mlgates.checks import row_hashes
from pytest_mlgates.errors import DataUnusable, UsageProblem
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference import features as f
from pytest_mlgates.reference import lineage
from pytest_mlgates.reference.synthesise import Scale, extend, synthesise
from pytest_mlgates.reference.train import BASELINE, CHALLENGER, EXPERIMENT, ForestParams, train
from pytest_mlgates.registry.tracking import MlflowTracker
from pytest_mlgates.rows import row_keys
from pytest_mlgates.tables import FACT, HOLDOUT
from tests.reference.conftest import ENVIRON, SMALL_FOREST


def parquet(trained, name, path, version="1"):
    data = trained.registry.read_artifact(trained.registry.get(name, version), path)
    return pd.read_parquet(io.BytesIO(data))


def test_console_lines_are_the_tutorials(trained):
    lines = trained.outcome.lines()
    assert lines[0] == f"MLflow tracking URI: sqlite:///{trained.folder}/mlflow.db"
    assert lines[1] == "Experiment: /Shared/casino-slot-revenue-forecast"
    assert lines[2] == "Code SHA: abc123 | Branch: main | Actor: ada"
    assert lines[3] == "Loaded 1,825 rows from lh_gold.fact_daily_slot_revenue"
    figures = r"R²=0\.\d\d  RMSE=\$\d\d,\d{3}  MAPE=\d+\.\d%"
    assert re.fullmatch(rf"Baseline \(Ridge\):     {figures}", lines[4])
    assert re.fullmatch(rf"Challenger \(RF\):      {figures}", lines[5])
    assert lines[6] == "Registered: casino-slot-revenue-forecast-baseline   v1"
    assert lines[7] == "Registered: casino-slot-revenue-forecast-challenger v1"


@pytest.mark.parametrize("name", [BASELINE, CHALLENGER])
def test_full_lineage_is_recorded_as_params_and_tags(trained, name):
    info = trained.registry.run_info(trained.registry.get(name, "1"))
    assert info.experiment == EXPERIMENT
    data = {
        "training_data_table": FACT,
        "training_data_version": str(trained.store.version(FACT)),
        "holdout_table": HOLDOUT,
        "holdout_version": "0",
        "rows": "1825",
    }
    code = {"git_sha": "abc123", "git_branch": "main", "author": "ada"}
    use = {"intent": "baseline", "domain": "casino", "environment": "local", "model": name, "cost_center": "casino-analytics"}
    assert {**data, **code, **use}.items() <= info.tags.items()
    assert data.items() <= info.params.items()
    assert {"r2", "rmse", "mape"} <= info.metrics.keys()
    assert info.metrics["r2"] == trained.outcome.metrics[name]["r2"] == info.metrics["holdout_r2"]


def test_stored_figures_are_those_of_the_stored_model_on_the_stored_holdout(trained):
    """Recomputed from the registry and the lakehouse alone, with plain formulas."""
    version = trained.registry.get(CHALLENGER, "1")
    holdout = trained.store.read(HOLDOUT).to_pandas().sort_values(f.KEYS)
    predicted = np.asarray(trained.registry.load(version).predict(holdout))
    error = holdout.revenue.to_numpy() - predicted
    spread = holdout.revenue.to_numpy() - holdout.revenue.mean()
    metrics = trained.registry.run_info(version).metrics
    assert metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
    assert metrics["r2"] == pytest.approx(1 - (error**2).sum() / (spread**2).sum(), rel=1e-12)
    assert metrics["mape"] == pytest.approx((np.abs(error) / holdout.revenue).mean(), rel=1e-12)


@pytest.mark.parametrize("name", [BASELINE, CHALLENGER])
def test_expected_predictions_are_what_the_loaded_model_answers(trained, name):
    stored = parquet(trained, name, lineage.EXPECTED_PREDICTIONS)
    holdout = trained.store.read(HOLDOUT).to_pandas().sort_values(f.KEYS).reset_index(drop=True)
    answer = trained.registry.load(trained.registry.get(name, "1")).predict(holdout)
    assert list(stored.columns) == ["row_id", "row_key", "expected"]
    assert stored.row_id.tolist() == list(range(len(holdout)))
    assert (stored.row_key.to_numpy() == row_keys(holdout)).all()
    assert (stored.expected.to_numpy() == np.asarray(answer)).all()


def test_no_row_of_the_holdout_was_learned(trained):
    learned = set(parquet(trained, CHALLENGER, lineage.TRAINING_ROWS).row_hash)
    holdout = trained.store.read(HOLDOUT).to_pandas()
    held = set(row_hashes(holdout[[*f.FEATURES, f.TARGET]]))
    assert len(learned) == 255 * 5
    assert len(held) == 55 * 5
    assert not learned & held


def test_training_metrics_by_part_and_the_reference_with_predictions(trained):
    version = trained.registry.get(CHALLENGER, "1")
    parts = json.loads(trained.registry.read_artifact(version, lineage.TRAINING_METRICS))
    assert set(parts) == {"train", "validation", "holdout"}
    assert parts["train"]["r2"] > parts["validation"]["r2"]
    reference = parquet(trained, CHALLENGER, lineage.REFERENCE)
    assert list(reference.columns) == [*f.KEYS, *f.FEATURES, f.TARGET, "prediction"]
    again = trained.registry.load(version).predict(reference)
    assert (reference.prediction.to_numpy() == np.asarray(again)).all()


def test_the_signature_takes_the_five_inputs_in_order_and_the_scaler_is_inside(trained):
    predictor = trained.registry.load(trained.registry.get(BASELINE, "1"))
    assert [(c.name, c.type) for c in predictor.inputs] == [(name, "double") for name in f.FEATURES]
    raw = pd.DataFrame([[5.0, 0.0, 1.0, 400_000.0, 400_000.0]], columns=f.FEATURES)
    assert 100_000 < float(np.asarray(predictor.predict(raw))[0]) < 1_000_000


def test_the_forest_predicts_in_one_thread(trained):
    assert trained.registry.load(trained.registry.get(CHALLENGER, "1")).native.n_jobs == 1


def test_a_stronger_challenger_says_how_much_better_it_is(trained):
    train(trained.tracker, trained.store, params=SMALL_FOREST, only="challenger", environ=ENVIRON)
    before = trained.tracker.latest(CHALLENGER)
    outcome = train(trained.tracker, trained.store, params=ForestParams(40, 12, 2), only="challenger", environ=ENVIRON)
    made = outcome.challenger
    assert outcome.baseline is None
    assert made.previous == before
    lines = outcome.lines()
    assert lines[4].startswith(f"Challenger v{made.version}: R²=")
    r2 = made.metrics["r2"] / before[1]["r2"] - 1
    rmse = made.metrics["rmse"] / before[1]["rmse"] - 1
    assert lines[5] == f"Improvement vs v{before[0]}: {r2:+.1%} R², {rmse:+.1%} RMSE"
    assert r2 > 0 > rmse


def test_a_sweep_is_a_parent_with_nested_children_and_registers_the_best_on_validation(trained):
    tries = (ForestParams(5, 1, 5), ForestParams(10, 8, 5), ForestParams(5, 2, 5))
    outcome = train(trained.tracker, trained.store, sweep=tries, only="challenger", environ=ENVIRON)
    assert outcome.params == tries[1]
    parent = outcome.challenger.run_id
    client = trained.tracker.client
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
    assert len(children) == 3
    assert {run.info.status for run in children} == {"FINISHED"}
    assert not any(key in run.data.metrics for run in children for key in ("r2", "holdout_r2"))
    best = max(children, key=lambda run: run.data.metrics["validation_r2"])
    assert best.data.params["max_depth"] == client.get_run(parent).data.params["max_depth"] == "8"
    versions = trained.registry.versions(CHALLENGER)
    assert sum(v.run_id in {run.info.run_id for run in children} for v in versions) == 0
    assert len([line for line in outcome.lines() if line.startswith("Trial (")]) == 3


def test_retraining_on_later_days_keeps_the_holdout_and_learns_the_new_days(tmp_path, trained):
    store = Lakehouse(tmp_path)
    scale = Scale(properties=2, machines=1, days=120)
    synthesise(store, scale)
    first = train(trained.tracker, store, params=SMALL_FOREST, only="challenger", environ=ENVIRON)
    held = store.read(HOLDOUT).to_pandas()
    end = pd.Timestamp(scale.end).date() + pd.Timedelta(days=30)
    extend(store, Scale(properties=2, machines=1, end=end))
    tags = {"trigger_reason": "drift_alert", "alert_id": "a-1"}
    again = train(trained.tracker, store, params=SMALL_FOREST, only="challenger", refit=True, extra_tags=tags, environ=ENVIRON)
    pd.testing.assert_frame_equal(store.read(HOLDOUT).to_pandas(), held)
    assert again.holdout_version == first.holdout_version
    assert again.training_version > first.training_version
    version = trained.registry.get(CHALLENGER, again.challenger.version)
    info = trained.registry.run_info(version)
    assert tags.items() <= info.tags.items()
    assert tags.items() <= version.tags.items()
    assert info.params["train_end"] == str(end)
    learned = parquet(trained, CHALLENGER, lineage.REFERENCE, again.challenger.version)
    assert not set(learned.play_date) & set(held.play_date)
    assert learned.play_date.max() == end


def test_the_same_seed_trains_the_same_model(trained):
    made = [train(trained.tracker, trained.store, params=SMALL_FOREST, only="challenger", environ=ENVIRON) for _ in range(2)]
    stored = [parquet(trained, CHALLENGER, lineage.EXPECTED_PREDICTIONS, m.challenger.version) for m in made]
    pd.testing.assert_frame_equal(*stored)


def test_training_leaves_mlflows_process_wide_state_alone(trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    before = mlflow.get_tracking_uri()
    train(trained.tracker, trained.store, only="baseline", environ=ENVIRON)
    assert mlflow.get_tracking_uri() == before
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///elsewhere.db"
    assert mlflow.active_run() is None


def test_artifacts_lie_beside_the_database(trained):
    assert (trained.folder / "mlartifacts").is_dir()
    experiment = trained.tracker.client.get_experiment_by_name(EXPERIMENT)
    assert experiment.artifact_location == (trained.folder / "mlartifacts").as_uri()


def test_a_run_that_fails_is_marked_failed(trained):
    with pytest.raises(DataUnusable), trained.tracker.run(EXPERIMENT, "broken", tags={}) as run:
        raise DataUnusable("no rows")
    assert trained.tracker.client.get_run(run.run_id).info.status == "FAILED"


def test_what_cannot_be_meant_is_refused_before_anything_is_read(tmp_path, trained):
    empty = Lakehouse(tmp_path)
    with pytest.raises(UsageProblem, match="did you mean 'production-candidate'"):
        train(trained.tracker, empty, intent="production-candidat")
    with pytest.raises(UsageProblem, match="only is 'ridge'"):
        train(trained.tracker, empty, only="ridge")
    with pytest.raises(UsageProblem, match="were both given"):
        train(trained.tracker, empty, params=SMALL_FOREST, sweep=(SMALL_FOREST,))
    with pytest.raises(UsageProblem, match="max_depth is 0"):
        ForestParams(max_depth=0)


def test_a_model_without_versions_has_no_latest(trained):
    assert trained.tracker.latest("nosuch") is None


def test_ridge_is_fair_and_the_forest_clearly_better_at_the_shipped_size(tmp_path, trained):
    """The generator's promise: Ridge R² 0.70 to 0.80, the forest at least 0.05 above; calibration error far below 0.10."""
    store = Lakehouse(tmp_path)
    synthesise(store, Scale(machines=2))
    outcome = train(trained.tracker, store, params=ForestParams(n_estimators=60), environ=ENVIRON)
    r2 = {name: metrics["r2"] for name, metrics in outcome.metrics.items()}
    assert 0.70 <= r2[BASELINE] <= 0.80
    assert r2[CHALLENGER] >= r2[BASELINE] + 0.05
    holdout = store.read(HOLDOUT).to_pandas().sort_values(f.KEYS)
    for name, version in outcome.versions.items():
        expected = parquet(trained, name, lineage.EXPECTED_PREDICTIONS, version).expected.to_numpy()
        bins = np.array_split(np.argsort(expected), 10)
        gaps = sum(len(b) * abs(holdout.revenue.to_numpy()[b].mean() - expected[b].mean()) for b in bins)
        assert gaps / len(expected) / holdout.revenue.mean() < 0.03
    assert MlflowTracker(trained.tracker.uri).latest(BASELINE)[0] == outcome.versions[BASELINE]
