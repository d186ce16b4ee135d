"""Gate 2: the same predictions as stored, and each kind of leakage a named finding."""

import numpy as np
import pandas as pd
import pytest

from pytest_mlgates.checks import holdout, row_hashes
from pytest_mlgates.results import Verdict


@pytest.fixture
def expected():
    return np.random.default_rng(0).normal(400e3, 80e3, 1000)


def test_float32_round_trip_is_the_same_prediction(expected):
    found = holdout(expected.astype(np.float32).astype(float), expected, exact=True)
    assert found.verdict is Verdict.PASS
    assert found.details["findings"]["same_predictions"]["rows_that_differ"] == 0


def test_one_changed_row_of_the_same_version_fails(expected):
    now = expected.copy()
    now[17] *= 1.01
    found = holdout(now, expected, exact=True)
    assert found.verdict is Verdict.FAIL
    assert "1 of 1,000 predictions are not those stored" in found.hint


@pytest.mark.parametrize("change", ["flip", "slice", "negative mean"])
def test_what_the_relative_mean_misses(expected, change):
    now, then = expected.copy(), expected.copy()
    if change == "flip":
        now = -now
    elif change == "slice":
        now[:40] = 0.0
    else:
        now, then = -2 * now, -then
    assert holdout(now, then, y_true=then).verdict is Verdict.FAIL


def test_gap_is_in_standard_deviations_so_a_shifted_target_changes_nothing(expected):
    now = expected + 1000.0
    near, far = holdout(now, expected), holdout(now - 4e5, expected - 4e5)
    assert near.estimate == pytest.approx(1000 / expected.std())
    assert (near.verdict, near.estimate) == (far.verdict, pytest.approx(far.estimate))


def test_slice_and_tail_and_flips_are_named(expected):
    now = expected.copy()
    now[:30] += 8e4
    part = np.where(np.arange(1000) < 30, "new venue", "old")
    found = holdout(now, expected, max_gap=0.05, slices={"venue": part}, decision_threshold=400e3, max_flips=0.01)
    parts = found.details["findings"]
    assert parts["mean_gap"]["verdict"] != "fail"
    assert parts["slices"]["verdict"] == "fail"
    assert parts["tail_gap"]["verdict"] == "fail"
    assert "venue=new venue" in found.hint
    assert parts["flips"]["estimate"] > 0


def frame(rows=500, seed=1):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "day": rng.integers(0, 7, rows),
            "lag": rng.normal(4e5, 8e4, rows),
            "rate": rng.random(rows),
            "venue": rng.choice(["a", "b"], rows),
            "date": pd.date_range("2025-01-01", periods=rows),
        }
    )


def test_shared_rows_are_found_also_after_float32(expected):
    train, held = frame(2000, 1), frame(1000, 2)
    leaked = train.head(50).astype({"lag": "float32", "rate": "float32", "day": "float64"})
    held = pd.concat([held.iloc[50:], leaked], ignore_index=True)
    found = holdout(
        expected, expected, exact=True, train_hashes=row_hashes(train), holdout_hashes=row_hashes(held[train.columns[::-1]])
    )
    assert found.verdict is Verdict.FAIL
    assert found.details["findings"]["shared_rows"]["rows"] == 50
    assert "leakage: 50 of 1,000" in found.hint
    clean = holdout(expected, expected, exact=True, train_hashes=row_hashes(train), holdout_hashes=row_hashes(frame(1000, 2)))
    assert clean.verdict is Verdict.PASS


def test_rows_that_repeat_by_nature_are_no_leak(expected):
    rng = np.random.default_rng(3)
    train = pd.DataFrame({"day": rng.integers(0, 7, 2000), "promo": rng.integers(0, 2, 2000)})
    held = pd.DataFrame({"day": rng.integers(0, 7, 1000), "promo": rng.integers(0, 2, 1000)})
    found = holdout(expected, expected, exact=True, train_hashes=row_hashes(train), holdout_hashes=row_hashes(held))
    assert found.verdict is Verdict.PASS


def test_hashes_tell_rows_apart_and_take_dates_in_any_form():
    rows = frame()
    first = row_hashes(rows)
    assert first.dtype == np.int64
    assert np.unique(first).size == len(rows)
    assert (row_hashes(rows.assign(date=rows.date.dt.date)) == first).all()
    assert (row_hashes(rows.assign(rate=rows.rate + 1e-3)) != first).all()
    assert (row_hashes(rows.assign(rate=rows.rate.where(rows.index != 3))) != first).sum() == 1


def test_holdout_before_training_is_named(expected):
    early, late = pd.date_range("2024-01-01", periods=10), pd.date_range("2025-01-01", periods=10)
    found = holdout(expected, expected, exact=True, train_times=late, holdout_times=early)
    assert found.verdict is Verdict.FAIL
    assert "the holdout precedes the training data" in found.hint
    mixed = holdout(expected, expected, exact=True, train_times=early, holdout_times=early[5:])
    assert "5 holdout rows are not after" in mixed.hint
    assert holdout(expected, expected, exact=True, train_times=early, holdout_times=late).verdict is Verdict.PASS


def test_train_gap_is_named_for_scores_and_errors(expected):
    def gap(**scores):
        return holdout(expected, expected, exact=True, **scores).verdict

    assert gap(train_score=0.99, holdout_score=0.5) is Verdict.FAIL
    assert gap(train_score=0.95, holdout_score=0.88) is Verdict.PASS
    assert gap(train_score=1.0, holdout_score=10.0, higher_is_better=False) is Verdict.FAIL
    assert gap(train_score=20.0, holdout_score=35.0, higher_is_better=False) is Verdict.PASS


def test_without_expected_predictions_it_skips_unless_a_leak_is_found(expected):
    found = holdout(expected)
    assert found.verdict is Verdict.SKIP
    assert "expected_predictions.parquet" in found.hint
    leak = holdout(expected, train_hashes=[1, 2, 3], holdout_hashes=[1, 2, 3])
    assert leak.verdict is Verdict.FAIL
