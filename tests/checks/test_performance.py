"""Gate 1: right side up for every metric, paired, with a floor, a looks correction and clear words."""

import numpy as np
import pytest

from pytest_mlgates.checks import performance
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import Verdict


def pair(n=1000, better=0.5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(400, 80, n)
    return y, y + better * rng.normal(0, 40, n), y + rng.normal(0, 40, n)


@pytest.mark.parametrize("metric", ["r2", "rmse", "mae", "mape"])
def test_better_passes_and_worse_fails_whatever_the_direction(metric):
    y, good, base = pair()
    assert performance(y, good, base, metric=metric).verdict is Verdict.PASS
    worse = performance(y, base, good, metric=metric)
    assert worse.verdict is Verdict.FAIL
    assert worse.hint


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1", "log_loss", "brier"])
def test_classifiers_too(metric):
    rng = np.random.default_rng(1)
    p = rng.random(3000)
    y = rng.random(3000) < p
    noise = np.clip(p + rng.normal(0, 0.5, 3000), 0.01, 0.99)
    assert performance(y, p, noise, metric=metric).verdict is Verdict.PASS
    assert performance(y, noise, p, metric=metric).verdict is Verdict.FAIL


def test_summary_has_metric_bounds_threshold_and_rows():
    y, good, base = pair(1095)
    found = performance(y, good, base, metric="r2", floor=0.6)
    assert found.summary.startswith("R² 0.9")
    assert "≥ 0.95 × baseline 0.7" in found.summary
    assert found.summary.endswith("n=1,095")
    own = found.details["interval"]
    assert f"(95% CI {own['low']:.3f}–{own['high']:.3f})" in found.summary
    assert found.low <= found.estimate <= found.high
    assert found.low >= found.threshold
    assert found.hint == ""
    assert set(found.details["conditions"]) == {"baseline", "floor"}
    assert found.details["ratio"] == pytest.approx(found.estimate / found.details["baseline"]["estimate"])


def test_bounds_are_paired_so_an_equal_model_passes_with_few_rows():
    y, good, _ = pair(300)
    found = performance(y, good + 0.01, good)
    own = found.details["interval"]
    assert found.verdict is Verdict.PASS
    assert own["low"] < found.threshold < found.low or own["low"] >= found.threshold
    assert found.high - found.low < (own["high"] - own["low"]) / 3


def test_negative_baseline_is_held_to_an_absolute_margin():
    y, _, _ = pair(3000)
    rng = np.random.default_rng(2)
    base = y.mean() + rng.normal(0, 40, 3000)
    found = performance(y, base + rng.normal(0, 1, 3000), base, metric="r2")
    assert found.details["baseline"]["estimate"] < 0
    assert found.verdict is Verdict.PASS
    assert "no better than chance" in found.summary
    assert performance(y, y.mean() + rng.normal(0, 60, 3000), base, metric="r2").verdict is Verdict.FAIL


def test_floor_decides_where_it_is_the_worse_condition():
    y, good, base = pair()
    found = performance(y, good, base, floor=0.99)
    assert found.verdict is Verdict.FAIL
    assert found.threshold == 0.99
    assert "floor" in found.summary
    assert performance(y, good, metric="rmse", floor=30.0).verdict is Verdict.PASS
    assert performance(y, good, metric="rmse", floor=10.0).verdict is Verdict.FAIL


def test_inconclusive_says_how_many_rows_would_settle_it():
    y, _, base = pair(200, seed=3)
    near = y + np.random.default_rng(9).normal(0, 40.5, 200)
    found = performance(y, near, base)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "rows would settle it" in found.hint
    assert "not settled" in found.summary
    assert "paired bounds" in found.summary


def test_that_many_rows_do_settle_it():
    y, good, base = pair(100, better=0.99, seed=5)
    found = performance(y, good, base)
    assert found.verdict is Verdict.INCONCLUSIVE
    needed = int(found.hint.split()[1].replace(",", ""))
    times = -(-needed // 100) + 1
    again = performance(*(np.tile(a, times) for a in (y, good, base)))
    assert again.verdict is not Verdict.INCONCLUSIVE


def test_looks_at_one_holdout_move_only_the_passing_bound():
    y, good, base = pair(300)
    once, often = performance(y, good, base), performance(y, good, base, looks=20)
    assert often.low < once.low
    assert often.high == once.high
    assert often.details["pass_confidence"] == pytest.approx(0.9975)


def test_best_of_twenty_bad_candidates_does_not_pass():
    """Twenty candidates at 0.94 of the baseline, the luckiest taken: uncorrected it passes often, corrected seldom."""
    rng = np.random.default_rng(11)
    passed = {1: 0, 20: 0}
    for _ in range(60):
        y = rng.normal(size=300)
        base = 0.7 * y + np.sqrt(0.21) * rng.normal(size=300)
        tries = [0.658 * y + np.sqrt(0.658 * 0.342) * rng.normal(size=300) for _ in range(20)]
        best = max(tries, key=lambda p: -((y - p) ** 2).mean())
        for looks in passed:
            passed[looks] += performance(y, best, base, looks=looks).verdict is Verdict.PASS
    assert passed[1] >= 9
    assert passed[20] <= 6


@pytest.mark.parametrize("metric", ["explained_variance", "neg_root_mean_squared_error", "neg_max_error"])
def test_any_scikit_learn_scorer_by_name(metric):
    y, good, base = pair(400)
    assert performance(y, good, base, metric=metric).verdict is Verdict.PASS
    assert performance(y, base, good, metric=metric).verdict is Verdict.FAIL


@pytest.mark.parametrize("metric", ["balanced_accuracy", "average_precision"])
def test_classification_scorers_by_name(metric):
    rng = np.random.default_rng(4)
    p = rng.random(400)
    y = rng.random(400) < p
    found = performance(y, p, 1 - p, metric=metric)
    assert found.verdict is Verdict.PASS
    assert "Poisson bootstrap" in found.method


def test_text_labels_and_two_columns():
    rng = np.random.default_rng(5)
    p = rng.random(500)
    y = np.where(rng.random(500) < p, "yes", "no")
    assert performance(y, np.c_[1 - p, p], np.full(500, 0.5), metric="auc").verdict is Verdict.PASS
    assert performance(y, np.where(p > 0.5, "yes", "no"), np.full(500, "no"), metric="accuracy").verdict is Verdict.PASS


def test_nothing_to_judge_by_is_a_skip_that_says_how():
    found = performance([1.0, 2.0], [1.0, 2.0])
    assert found.verdict is Verdict.SKIP
    assert "baseline" in found.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_ratio": 0},
        {"min_ratio": float("nan")},
        {"floor": float("nan")},
        {"confidence": 95},
        {"looks": 0},
        {"metric": "nosuch"},
        {"task": "ranking"},
    ],
)
def test_settings_that_make_no_sense_are_the_callers_error(wrong):
    y, good, base = pair(50)
    with pytest.raises(ConfigError):
        performance(y, good, base, **wrong)
