"""The further checks: each finds its defect and is silent without it."""

import numpy as np
import pandas as pd
import pytest

from pytest_mlgates import checks
from pytest_mlgates.errors import ConfigError, ModelUnusable
from pytest_mlgates.results import Verdict


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "day": rng.integers(0, 7, 400),
            "promo": rng.integers(0, 2, 400),
            "lag": rng.normal(400, 80, 400),
            "venue": rng.choice(["a", "b"], 400),
        }
    )


def model(x):
    return (0.8 * x["lag"].fillna(400) + 20 * x["promo"]).clip(0, 1000).to_numpy(dtype=float)


def test_deterministic_model_passes_and_a_random_one_fails(frame):
    rng = np.random.default_rng(1)
    assert checks.determinism(model, frame).verdict is Verdict.PASS
    found = checks.determinism(lambda x: model(x) + rng.normal(0, 1e-3, len(x)), frame)
    assert found.verdict is Verdict.FAIL
    assert "change from call to call" in found.hint


def test_text_answers_are_compared_too(frame):
    assert checks.determinism(lambda x: np.where(x.lag > 400, "hi", "lo"), frame).verdict is Verdict.PASS


def test_rows_that_depend_on_their_batch_are_found(frame):
    assert checks.single_row_equals_batch(model, frame).verdict is Verdict.PASS
    found = checks.single_row_equals_batch(lambda x: model(x) - model(x).mean(), frame)
    assert found.verdict is Verdict.FAIL
    assert "alone" in found.hint
    by_place = checks.single_row_equals_batch(lambda x: model(x) + (np.arange(len(x)) if len(x) > 1 else 0), frame)
    assert by_place.verdict is Verdict.FAIL


def test_odd_input_gets_an_answer_or_a_clean_error(frame):
    assert checks.robustness(model, frame, low=0, high=1000).verdict is Verdict.PASS

    def refuses(x):
        if x.isna().any(axis=None) or not x.venue.isin(["a", "b"]).all():
            raise ValueError("unknown input")
        return model(x)

    assert checks.robustness(refuses, frame).verdict is Verdict.PASS


@pytest.mark.parametrize("defect", ["nan", "crash", "unbounded"])
def test_odd_input_defects_are_named_with_the_column(frame, defect):
    def predict(x):
        if defect == "nan":
            return x["lag"].to_numpy(dtype=float)
        if defect == "crash":
            [["a", "b"][{"a": 0, "b": 1}.get(v, 7)] for v in x.venue]
            return model(x)
        return 0.8 * x["lag"].fillna(400).to_numpy()

    found = checks.robustness(predict, frame, low=0, high=1000)
    assert found.verdict is Verdict.FAIL
    words = {"nan": "lag: missing → NaN", "crash": "venue: an unseen category → crash, IndexError", "unbounded": "above 1000"}
    assert words[defect] in str(found.details["problems"]).replace("': '", " → ")


def test_bounds():
    assert checks.bounds([1.0, 2.0], low=0).verdict is Verdict.PASS
    found = checks.bounds([1.0, -2.0, 99.0], low=0, high=10)
    assert (found.verdict, found.details["outside"]) == (Verdict.FAIL, 2)
    assert checks.bounds([1.0]).verdict is Verdict.SKIP
    assert checks.bounds([np.nan], low=0).verdict is Verdict.ERROR
    with pytest.raises(ConfigError):
        checks.bounds([1.0], low=2, high=1)


def test_declared_direction(frame):
    assert checks.monotonicity(model, frame, {"lag": "+"}).verdict is Verdict.PASS
    assert checks.monotonicity(model, frame, {"lag": "-"}).verdict is Verdict.FAIL
    assert checks.monotonicity(model, frame, {}).verdict is Verdict.SKIP
    with pytest.raises(ConfigError, match="'nosuch'"):
        checks.monotonicity(model, frame, {"nosuch": "+"})


def test_schema(frame):
    signature = [("day", "long"), ("promo", "long"), ("lag", "double"), ("venue", "string")]

    def enforcing(x):
        if "day" not in x:
            raise ValueError("missing day")
        return model(x)

    assert checks.schema(signature, frame, predict=enforcing).verdict is Verdict.PASS
    assert "answers without its input 'day'" in checks.schema(signature, frame, predict=model).hint
    assert "log the model with signature" in checks.schema([], frame).hint
    assert "lacks rate" in checks.schema([("rate", "double")], frame).hint
    assert "has text in venue" in checks.schema([("venue", "double")], frame).hint


def test_a_model_that_raises_or_loses_rows_is_unusable(frame):
    with pytest.raises(ModelUnusable, match="RuntimeError: broken"):
        checks.determinism(lambda x: (_ for _ in ()).throw(RuntimeError("broken")), frame)
    with pytest.raises(ModelUnusable, match="399 values for 400 rows"):
        checks.determinism(lambda x: model(x)[1:], frame)


def outcomes(frame, seed=2):
    return model(frame) + np.random.default_rng(seed).normal(0, 20, len(frame))


def test_a_weak_slice_is_named_in_words():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"day": rng.integers(0, 7, 6000), "promo": rng.integers(0, 2, 6000), "lag": rng.normal(400, 80, 6000)})
    y = outcomes(frame)
    assert checks.weak_slices(y, model(frame), frame).verdict is Verdict.PASS
    here = (frame.promo == 1) & (frame.day == 6)
    found = checks.weak_slices(y, model(frame) + np.where(here, 100, 0), frame)
    assert found.verdict is Verdict.FAIL
    assert "day=6 & promo=1: RMSE " in found.hint
    assert f"n={int(here.sum()):,}" in found.hint


def test_weak_slice_scan_keeps_its_level():
    """150 models without a weak slice: far fewer than 5 % are accused, though a hundred segments are looked at."""
    rng = np.random.default_rng(4)
    accused = 0
    for _ in range(150):
        frame = pd.DataFrame(rng.integers(0, 5, (500, 4)), columns=list("abcd"))
        accused += checks.weak_slices(rng.normal(size=500), np.zeros(500), frame, max_ratio=1.01).verdict is Verdict.FAIL
    assert accused <= 12


def test_weak_slices_of_a_classifier_and_of_quartiles():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"age": rng.normal(40, 10, 5000)})
    p = np.full(5000, 0.05)
    y = rng.random(5000) < np.where(frame.age > 47, 0.6, 0.05)
    found = checks.weak_slices(y, p, frame, task="binary", max_ratio=1.5)
    assert found.verdict is Verdict.FAIL
    assert "age≥4" in found.hint


def test_declared_slices_have_their_own_threshold(frame):
    y = outcomes(frame)
    p = model(frame) + np.where(frame.promo == 1, np.random.default_rng(6).normal(0, 90, 400), 0)
    rules = {"promo=1": {"metric": "r2", "floor": 0.5}, "venue=a & promo=0": {"metric": "r2", "floor": 0.5}}
    found = checks.declared_slices(y, p, frame, rules)
    assert found.verdict is Verdict.FAIL
    assert found.summary.startswith("promo=1: R² ")
    assert found.details["slices"]["venue=a & promo=0"]["verdict"] == "pass"
    assert checks.declared_slices(y, p, frame, {}).verdict is Verdict.SKIP
    assert checks.declared_slices(y, p, frame, {"promo=7": {"metric": "r2", "floor": 0.5}}).verdict is Verdict.INCONCLUSIVE
    with pytest.raises(ConfigError, match="COLUMN=VALUE"):
        checks.declared_slices(y, p, frame, {"nosuch=1": {"metric": "r2", "floor": 0.5}})


def test_a_feature_that_knows_the_target_is_named(frame):
    y = outcomes(frame)
    assert checks.single_feature_leakage(y, frame).verdict is Verdict.PASS
    found = checks.single_feature_leakage(y, frame.assign(total=y * 1.01 + 3))
    assert found.verdict is Verdict.FAIL
    assert found.hint.startswith("total alone")
    label = y > np.median(y)
    assert (
        checks.single_feature_leakage(label, frame.assign(code=np.where(label, "x", "y")), task="binary").verdict
        is Verdict.FAIL
    )
    assert checks.single_feature_leakage(label, frame, task="binary").verdict is Verdict.PASS


def test_better_than_dummy(frame):
    y = outcomes(frame)
    assert checks.better_than_dummy(y, model(frame)).verdict is Verdict.PASS
    assert checks.better_than_dummy(y, np.full(400, y.mean())).verdict is Verdict.FAIL
    assert checks.better_than_dummy(y, np.random.default_rng(7).permutation(model(frame))).verdict is Verdict.FAIL
    last_week = y + np.random.default_rng(8).normal(0, 5, 400)
    assert checks.better_than_dummy(y, model(frame), dummy_pred=last_week).verdict is Verdict.FAIL


@pytest.mark.parametrize("broken", [np.array([]), np.array([np.nan] * 400), np.full(400, 3.0)])
def test_broken_outcomes_never_pass(frame, broken):
    for call in (
        lambda: checks.weak_slices(broken, model(frame), frame),
        lambda: checks.single_feature_leakage(broken, frame),
        lambda: checks.better_than_dummy(broken, model(frame)),
    ):
        found = call()
        if broken.size and np.isfinite(broken).all() and found.gate == "weak_slices":
            continue  # constant outcomes still have errors by segment
        assert found.verdict is not Verdict.PASS
