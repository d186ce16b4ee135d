"""Gate proving: mutants of both reference models die under the shipped thresholds, and survive loose ones by name."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from pytest_mlgates import checks, proving
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference import features, lending, synthesise
from pytest_mlgates.results import GateResult, Verdict


@dataclasses.dataclass
class World:
    suspect: proving.Suspect
    mutants: tuple
    y: np.ndarray
    baseline: np.ndarray
    task: str
    sensitive: pd.DataFrame | None = None

    def prove(self, **thresholds):
        run = checks.gate_runner(
            self.y,
            task=self.task,
            baseline_pred=self.baseline,
            sensitive=self.sensitive,
            latency={"p99_max": 0.2},
            holdout={},
            **thresholds,
        )
        return proving.prove(self.suspect, self.mutants, run)


def world(train, held, keys, x, y, predict, baseline, task, sensitive=None):
    p = predict(x)
    seconds = np.random.default_rng(0).uniform(0.005, 0.006, 1000)
    suspect = proving.Suspect(p, p, checks.row_hashes(train[keys]), checks.row_hashes(held[keys]), seconds)
    mutants = proving.mutants_of(suspect, y, task=task, frame=x, predict=predict, sensitive=sensitive)
    return World(suspect, mutants, y, baseline, task, sensitive)


@pytest.fixture(scope="module")
def slot(tmp_path_factory):
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    store = Lakehouse(str(tmp_path_factory.mktemp("slot")))
    synthesise.synthesise(store, synthesise.Scale(properties=12, machines=4))
    frame, _ = features.property_days(store)
    parts = features.split(store, features.with_lags(frame))
    columns, target = features.FEATURES, features.TARGET
    x, y = parts.train[columns], parts.train[target]
    forest = RandomForestRegressor(40, max_depth=8, min_samples_leaf=5, random_state=0).fit(x, y)
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(x, y)
    held = parts.holdout
    return world(
        parts.train,
        held,
        [*columns, target],
        held[columns],
        held[target].to_numpy(),
        forest.predict,
        ridge.predict(held[columns]),
        "regression",
    )


@pytest.fixture(scope="module")
def loans(tmp_path_factory):
    store = Lakehouse(str(tmp_path_factory.mktemp("loans")))
    train, held, _ = lending.split(store, lending.applications(), 7)
    columns, target = lending.INPUTS, lending.TARGET
    model = lending.logistic().fit(train[columns], train[target])
    base = lending.logistic().fit(train[lending.BASELINE_INPUTS], train[target])
    return world(
        train,
        held,
        [*columns, target],
        held[columns],
        held[target].to_numpy(),
        lambda f: model.predict_proba(f)[:, 1],
        base.predict_proba(held[lending.BASELINE_INPUTS])[:, 1],
        "binary",
        held[lending.SENSITIVE],
    )


SLOT = {"performance": {"metric": "r2", "min_ratio": 0.95, "floor": 0.6}, "calibration": {"max_ece": 0.1, "bins": 10}}
LOAN = {
    "performance": {"metric": "auc", "min_ratio": 0.95, "floor": 0.6},
    "calibration": {},
    "fairness": {"min_parity_ratio": 0.8},
}


def test_every_mutant_of_the_slot_model_dies_under_the_shipped_thresholds(slot):
    report = slot.prove(**SLOT)
    assert report.kill_score == 1.0, report.summary
    assert {o.name for o in report.outcomes} == {
        "shuffled",
        "constant",
        "noisy",
        "overconfident",
        "underconfident",
        "trained on the holdout",
        "feature dropped",
        "stale expected predictions",
        "slow",
    }
    assert set(report.candidate.values()) == {"pass"}


def test_every_mutant_of_the_lending_model_dies_under_the_shipped_thresholds(loans):
    report = loans.prove(**LOAN)
    assert report.kill_score == 1.0, report.summary
    assert "group shifted" in {o.name for o in report.outcomes}


def test_a_loose_setting_leaves_survivors_with_the_threshold_that_would_kill(slot):
    report = slot.prove(performance={"metric": "r2", "min_ratio": 0.1}, calibration={"max_ece": 0.5})
    assert report.kill_score < 1.0
    noisy = next(o for o in report.survivors if o.name == "noisy")
    assert "performance floor above 0." in noisy.would_kill
    assert "calibration max_ece below 0." in noisy.would_kill
    assert "noisy" in report.summary
    # that threshold does kill it, and spares the candidate
    floor = float(noisy.would_kill.split("performance floor above ")[1].split()[0]) + 0.01
    again = slot.prove(performance={"metric": "r2", "min_ratio": 0.1, "floor": floor}, calibration={"max_ece": 0.5})
    assert next(o for o in again.outcomes if o.name == "noisy").killed_by == ("performance",)
    assert again.candidate["performance"] == "pass"


def test_without_row_hashes_the_cheat_survives_and_the_remedy_is_said(slot):
    blind = dataclasses.replace(slot.suspect, train_hashes=None, holdout_hashes=None)
    mutants = proving.mutants_of(blind, slot.y, task="regression")
    report = dataclasses.replace(slot, suspect=blind, mutants=mutants).prove(**SLOT)
    cheat = next(o for o in report.survivors if o.name == "trained on the holdout")
    assert "training_rows.parquet" in cheat.would_kill


def test_a_gate_that_blocks_the_candidate_too_proves_nothing(slot):
    report = slot.prove(performance={"metric": "r2", "floor": 0.999}, calibration={"max_ece": 0.5})
    assert report.candidate["performance"] == "fail"
    assert not any("performance" in o.killed_by for o in report.outcomes)


def test_inconclusive_kills_only_where_it_blocks():
    def run(suspect):
        return [GateResult("performance", Verdict.INCONCLUSIVE if suspect.y_pred[0] < 0 else Verdict.PASS)]

    good, bad = proving.Suspect(np.ones(3)), proving.Suspect(-np.ones(3))
    mutants = [proving.Mutant("negative", "all below zero", bad)]
    assert proving.prove(good, mutants, run).kill_score == 1.0
    assert proving.prove(good, mutants, run, inconclusive_blocks=False).kill_score == 0.0


def test_report_is_json_and_repeats_itself(loans):
    one, two = loans.prove(**LOAN).to_dict(), loans.prove(**LOAN).to_dict()
    assert json.loads(json.dumps(one)) == two
    again = proving.mutants_of(loans.suspect, loans.y, task="binary", seed=39)
    assert all(
        (a.suspect.y_pred == b.suspect.y_pred).all() for a, b in zip(again, loans.mutants, strict=False) if a.name == b.name
    )


def test_multiclass_mutants():
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1, 2], 2000)
    y = np.array([rng.choice(3, p=row) for row in p])
    suspect = proving.Suspect(p, p)
    run = checks.gate_runner(y, task="multiclass", performance={"metric": "log_loss", "floor": 1.0}, holdout={}, calibration={})
    report = proving.prove(suspect, proving.mutants_of(suspect, y, task="multiclass"), run)
    assert {o.name for o in report.survivors} <= {"trained on the holdout"}


def test_plan_says_what_the_holdout_can_detect(slot, loans):
    rows = checks.plan(slot.y, slot.suspect.y_pred, slot.baseline, **SLOT, latency={"calls": 1000})
    assert [r.gate for r in rows] == ["performance", "performance", "latency", "calibration"]
    assert all(r.words and r.detectable is not None for r in rows)
    fair = [
        r
        for r in checks.plan(loans.y, loans.suspect.y_pred, task="binary", sensitive=loans.sensitive, fairness={})
        if r.gate == "fairness"
    ]
    assert {r.measure for r in fair} == {"parity of race", "parity of male", "parity of married"}
    assert all(r.detectable < 0.8 for r in fair)


def test_planned_defect_is_failed_at_about_the_planned_power():
    rng = np.random.default_rng(2)

    def draw(quality, n=500):
        y = rng.normal(size=n)
        return y, quality * y + np.sqrt(quality * (1 - quality)) * rng.normal(size=n)

    y, p = draw(0.7, 500)
    (row,) = checks.plan(y, p, performance={"metric": "r2", "floor": 0.6})
    failed = sum(checks.performance(*draw(row.detectable), metric="r2", floor=0.6).verdict is Verdict.FAIL for _ in range(300))
    assert 0.65 < failed / 300 < 0.95


def test_wrong_power_is_refused(slot):
    with pytest.raises(ConfigError, match="power"):
        checks.plan(slot.y, slot.suspect.y_pred, performance={}, power=1.0)
