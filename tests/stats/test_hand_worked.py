"""Numbers that can be checked with pencil and paper."""

import numpy as np
import pytest

from pytest_mlgates import stats
from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.stats import NotEnough
from pytest_mlgates.stats.comparison import held_to
from pytest_mlgates.stats.metrics import METRICS, Problem


def test_rmse_of_three_errors():
    found = stats.terms("rmse", Problem.of("regression", [1, 2, 3]), [1, 2, 6])
    assert found.value == pytest.approx(3**0.5)
    assert found.influence == pytest.approx(np.array([-3, -3, 6]) / (2 * 3**0.5))


def test_r2_of_four_rows():
    # y = 0, 0, 1, 1: SST = 1; errors 0, 0, 0, 0.5: SSE = 0.25
    assert stats.terms("r2", Problem.of("regression", [0, 0, 1, 1]), [0, 0, 1, 0.5]).value == pytest.approx(0.75)


def test_standard_error_of_a_mean():
    found = stats.terms("mae", Problem.of("regression", [0, 0, 0, 0]), [1, 2, 3, 4]).measured("mae")
    assert found.value == 2.5
    assert found.se == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)


@pytest.mark.parametrize(
    ("metric", "baseline", "threshold", "absolute"),
    [
        ("r2", 0.8, 0.76, None),
        ("r2", -0.2, -0.25, 0.05),
        ("r2", 0.0, -0.05, 0.05),
        ("auc", 0.8, 0.76, None),
        ("auc", 0.48, 0.455, 0.025),
        ("rmse", 19.0, 20.0, None),
        ("log_loss", 0.38, 0.4, None),
    ],
)
def test_threshold_follows_the_direction_of_the_metric(metric, baseline, threshold, absolute):
    found, _, margin = held_to(METRICS[metric], baseline, 0.95)
    assert found == pytest.approx(threshold)
    assert margin == (absolute if absolute is None else pytest.approx(absolute))


def test_parity_of_two_groups():
    # 4 of 10 against 8 of 10
    group = np.repeat(["a", "b"], 10)
    chosen = np.arange(20) % 10 < np.repeat([4, 8], 10)
    names, codes = stats.group_codes(group)
    found = stats.parity_ratio(stats.group_table(names, codes, chosen, chosen))
    assert found.value == pytest.approx(0.5)
    assert found.groups == ("a", "b")
    # log((4.5/10.5)/(8.5/10.5)), se² = 1/4.5 - 1/10.5 + 1/8.5 - 1/10.5
    centre, se = np.log(4.5 / 8.5), np.sqrt(1 / 4.5 + 1 / 8.5 - 2 / 10.5)
    assert found.low == pytest.approx(np.exp(centre - 1.6448536 * se), rel=1e-6)
    assert found.high == pytest.approx(np.exp(centre + 1.6448536 * se), rel=1e-6)


def test_more_groups_widen_only_the_failing_side():
    rows = np.array([500, 500, 500])
    two = stats.groups.GroupTable(("a", "b"), rows[:2], np.array([100, 200]), rows[:2], rows[:2])
    three = stats.groups.GroupTable(("a", "b", "c"), rows, np.array([100, 200, 200]), rows, rows)
    assert stats.parity_ratio(three).low == pytest.approx(stats.parity_ratio(two).low)
    assert stats.parity_ratio(three).high > stats.parity_ratio(two).high


def test_missing_group_values_are_left_out():
    names, codes = stats.group_codes(["x", None, "y", float("nan"), "x"])
    assert names == ("x", "y")
    assert codes.tolist() == [0, -1, 1, -1, 0]
    table = stats.group_table(names, codes, np.ones(5, bool), np.array([True, True, False, True, False]))
    assert table.rows.tolist() == [2, 1]
    assert table.selected.tolist() == [1, 0]


def test_group_without_positives_has_no_true_positive_rate():
    assert stats.rate_gap(("a", "b"), np.array([0, 5]), np.array([0, 10])) is None
    three = stats.rate_gap(("a", "b", "c"), np.array([0, 5, 8]), np.array([0, 10, 10]))
    assert three.value == pytest.approx(0.3)


def test_calibration_error_of_two_bins():
    # bin (0.2, 0.3]: four rows, one event; bin (0.7, 0.8]: four rows, all events
    p = np.repeat([0.25, 0.75], 4)
    y = np.array([1, 0, 0, 0, 1, 1, 1, 1], bool)
    found = stats.calibration_error(stats.probability_bins(y, p))
    assert found.plug_in == pytest.approx(0.125)
    assert 0 <= found.debiased < found.plug_in


def test_debiasing_takes_most_of_a_calibrated_models_error_away():
    rng = np.random.default_rng(1)
    plug_in, debiased = [], []
    for _ in range(200):
        p = rng.random(200)
        found = stats.calibration_error(stats.probability_bins(rng.random(200) < p, p))
        plug_in.append(found.plug_in)
        debiased.append(found.debiased)
    assert np.mean(plug_in) > 0.06
    assert np.mean(debiased) < 0.6 * np.mean(plug_in)


def test_smooth_error_sees_a_constant_shift():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.2, 0.7, 50_000)
    y = rng.random(50_000) < p + 0.1
    assert stats.smooth_calibration_error(y, p).value == pytest.approx(0.1, abs=0.01)
    assert stats.smooth_calibration_error(rng.random(50_000) < p, p).value < 0.02


def test_observed_over_expected():
    found = stats.observed_expected(np.array([1.0] * 30 + [0.0] * 70), np.full(100, 0.1))
    assert found.value == pytest.approx(3.0)
    assert 2.0 < found.low < 3.0 < found.high < 4.5
    none = stats.observed_expected(np.zeros(100), np.full(100, 0.05))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(3.6889 / 5, rel=1e-4)  # Garwood: 0 events allow up to 3.69


def test_runs_of_slow_calls_make_a_design_effect():
    alone, runs = np.full(1000, 0.01), np.full(1000, 0.01)
    alone[::50] = 1.0
    for start in (100, 400, 700, 800, 900):
        runs[start : start + 4] = 1.0
    one, two = stats.tail_share(alone, 0.2), stats.tail_share(runs, 0.2)
    assert (one.over, one.runs, one.pass_effect) == (20, 20, 1.0)
    r = 1 - 5 / 20 - 5 / 980  # mean slow run 4, mean fast run 196
    assert (two.over, two.runs) == (20, 5)
    assert two.pass_effect == pytest.approx((1 + r) / (1 - r))
    assert two.high > one.high


def test_a_model_that_is_always_slow_surely_misses():
    for slow in (np.ones(1000, bool), np.arange(1000) % 100 > 0):
        found = stats.tail_share(np.where(slow, 0.3, 0.1), 0.2)
        assert found.low > 0.5


def test_concurrency_is_the_least_design_effect():
    times = np.full(4000, 0.01)
    times[500:508] = 1.0
    assert stats.tail_share(times, 0.2, concurrency=32).pass_effect == 32


def test_looks_divide_the_level():
    assert stats.adjusted_confidence(0.95, 1) == pytest.approx(0.95)
    assert stats.adjusted_confidence(0.95, 20) == pytest.approx(0.9975)
    with pytest.raises(ConfigError, match="looks is 0"):
        stats.adjusted_confidence(0.95, 0)


def test_rows_to_settle():
    assert stats.rows_to_settle(100, 0.1, 0.05) == 400
    assert stats.rows_to_settle(100, 0.1, 0.0) is None
    assert stats.rows_to_settle(100, 0.1, 1e-9) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, float("nan")], "1 NaN or infinite"),
        ([1.0, float("inf")], "1 NaN or infinite"),
        (["a", "b"], "not numbers"),
        ([[1, 2], [3, 4]], "shape"),
        ([1 + 2j, 3j], "complex"),
        (None, "None"),
        ([[1, 2], [3]], "not an array"),
    ],
)
def test_unusable_arrays_say_why(values, words):
    with pytest.raises(DataUnusable, match=words):
        Problem.of("regression", values)


def test_one_class_is_not_enough():
    with pytest.raises(NotEnough, match="one class only"):
        Problem.of("binary", [1, 1, 1])


def test_unknown_metric_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'rmse'"):
        stats.compare("rsme", Problem.of("regression", [1.0, 2.0]), [1.0, 2.0])


def test_metric_of_another_task_is_refused():
    with pytest.raises(ConfigError, match="is for regression"):
        stats.compare("r2", Problem.of("binary", [0, 1]), [0.1, 0.9])
