"""The estimators by name: they take what users have, agree with the libraries they know, and say when there is no answer."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps
from sklearn import metrics as skm

from pytest_mlgates import stats
from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.promotion.contest import Day, judge
from pytest_mlgates.stats import Estimate, NotEnough
from pytest_mlgates.stats.interval import Measured
from pytest_mlgates.stats.smooth import smooth_plug_in

RNG = np.random.default_rng(5)
N = 400
Y = RNG.gamma(2, 50, N) + 20
A, B = Y * RNG.gamma(30, 1 / 30, N), Y * RNG.gamma(15, 1 / 15, N)
P = RNG.uniform(0.2, 0.8, N)
LABEL = RNG.random(N) < P
GROUP = RNG.choice(["a", "b", "c"], N)


def test_every_public_name_is_there_and_named_in_the_documentation():
    for name in stats.__all__:
        assert hasattr(stats, name)
        if name[0].islower() and name != "group_table":
            assert name in stats.__doc__, name


@pytest.mark.parametrize("name", ["r2", "rmse", "mae", "mape", "explained_variance"])
def test_metric_difference_and_ratio_agree_with_scikit_learn(name):
    theirs = {
        "r2": skm.r2_score,
        "rmse": skm.root_mean_squared_error,
        "mae": skm.mean_absolute_error,
        "mape": skm.mean_absolute_percentage_error,
        "explained_variance": skm.explained_variance_score,
    }[name]
    a, b = theirs(Y, A), theirs(Y, B)
    for found, value in (
        (stats.metric(list(Y), pd.Series(A, index=range(N, 2 * N)), name), a),
        (stats.difference(Y, A, B, name), a - b),
        (stats.ratio(Y, A, B, name), a / b),
    ):
        assert isinstance(found, Estimate)
        assert found.value == pytest.approx(value, rel=1e-12)
        assert found.low < found.value < found.high
        assert (found.n, found.confidence) == (N, 0.95)


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (stats.metric(LABEL, P, "auc", confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_ratio_is_fiellers_set():
    """Its ends are the ratios at which candidate - ratio x baseline is just two-sided significant."""
    found = stats.ratio(Y, A, B, "mae")
    one, two = np.abs(Y - A), np.abs(Y - B)
    for end in (found.low, found.high):
        t = sps.ttest_1samp(one - end * two, 0).statistic
        assert abs(t) == pytest.approx(sps.t.ppf(0.975, min(df_of_tails(one), df_of_tails(two))), rel=1e-6)


def test_paired_difference_of_means_is_the_paired_t_interval():
    """With the degrees of freedom of the longer tails in place of n - 1."""
    found = stats.difference(Y, A, B, "mae")
    one, two = np.abs(Y - A), np.abs(Y - B)
    half = sps.sem(one - two) * sps.t.ppf(0.975, min(df_of_tails(one), df_of_tails(two)))
    mean = sps.ttest_rel(one, two).statistic * sps.sem(one - two)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-9)


def df_of_tails(loss):
    return min(N - 1, 2 * N / (sps.kurtosis(loss, fisher=False) - 1))


def test_degrees_of_freedom_are_those_of_the_variances_own_variance():
    """2 var(s²)⁻¹ for chi-square losses: the sample variance of 200 of them, drawn 20,000 times."""
    rng = np.random.default_rng(7)
    drawn = rng.chisquare(4, (20_000, 200)).var(axis=1, ddof=1)
    truth = 2 * drawn.mean() ** 2 / drawn.var()
    # a sample of many rows knows its kurtosis (6 for four degrees of freedom) well
    assert stats.tail_df(sps.chi2(4).ppf((np.arange(1_000_000) + 0.5) / 1_000_000) - 4) / 5_000 == pytest.approx(
        truth, rel=0.03
    )


def test_a_ratio_to_nothing_is_refused():
    with pytest.raises(NotEnough, match="not surely above zero"):
        stats.ratio(Y, A, RNG.permutation(Y), "r2")


@pytest.mark.parametrize(("scale", "value"), [("log", 2.0), ("unit", 0.95), ("lack", 0.9), ("linear", -3.0)])
def test_bounds_are_ordered_and_stay_in_range_on_every_scale(scale, value):
    for se in (0.0, 0.01, 0.5, 50.0):
        found = Measured(value, se, 100, 99, "m", scale).interval()
        assert found.low <= value <= found.high
        assert scale != "log" or found.low >= 0
        assert scale != "unit" or 0 <= found.low <= found.high <= 1
        assert scale != "lack" or found.high <= 1


def test_a_share_of_one_has_clopper_and_pearsons_lower_bound():
    found = stats.metric(np.arange(20) % 2, np.arange(20) % 2, "accuracy")
    assert (found.low, found.high) == pytest.approx((sps.binomtest(20, 20).proportion_ci(0.95).low, 1.0), rel=1e-9)


def smooth_by_definition(y, p, width):
    """smECE at one width, on a fine grid, with reflected Gaussians summed one by one."""
    grid = (np.arange(2000) + 0.5) / 2000
    total = np.zeros(grid.size)
    for shift in (-2, 0, 2):
        for sign in (1, -1):
            total += ((y - p) * np.exp(-0.5 * ((grid[:, None] - (shift + sign * p)) / width) ** 2)).sum(axis=1)
    return np.abs(total).sum() / 2000 / (width * math.sqrt(2 * math.pi)) / y.size


def test_smooth_error_is_its_definition():
    width = smooth_plug_in(LABEL, P)
    assert smooth_by_definition(LABEL.astype(float), P, width) == pytest.approx(width, abs=2e-3)


def test_smooth_error_is_debiased_and_has_an_interval():
    p = RNG.uniform(0.2, 0.7, 20_000)
    off, right = RNG.random(20_000) < p + 0.1, RNG.random(20_000) < p
    found = stats.smooth_calibration_error(off, p)
    assert found.low < 0.1 < found.high
    assert found.high - found.low < 0.04
    calibrated = stats.smooth_calibration_error(right, p)
    assert calibrated.low == 0
    assert calibrated.value < smooth_plug_in(right, p)


def test_calibration_errors_of_many_classes():
    p = RNG.dirichlet([2, 2, 2], 3000)
    y = (p.cumsum(axis=1) < RNG.random((3000, 1))).sum(axis=1)
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    for kind in (False, True):
        told = {"task": "multiclass", "class_wise": kind}
        right, off = stats.expected_calibration_error(y, p, **told), stats.expected_calibration_error(y, sharp, **told)
        assert right.low == 0
        assert off.low > 0.05
    by_hand = np.mean([stats.calibration_error(stats.probability_bins(y == c, sharp[:, c])).debiased for c in range(3)])
    assert off.value == pytest.approx(by_hand, rel=1e-12)


def test_group_estimators_agree_with_fairlearn():
    import fairlearn.metrics as fm

    chosen = RNG.random(N) < np.where(GROUP == "a", 0.3, 0.5)
    for ours, theirs in (
        (stats.demographic_parity_ratio, fm.demographic_parity_ratio),
        (stats.equal_opportunity_difference, fm.equal_opportunity_difference),
        (stats.equalized_odds_difference, fm.equalized_odds_difference),
    ):
        found = ours(LABEL, chosen, GROUP)
        assert found.value == pytest.approx(theirs(LABEL, chosen, sensitive_features=GROUP), rel=1e-12)
        assert found.low <= found.value <= found.high
    rmse = [np.sqrt(((Y - A)[g == GROUP] ** 2).mean()) for g in "abc"]
    assert stats.group_error_ratio(Y, A, GROUP).value == pytest.approx(min(rmse) / max(rmse), rel=1e-12)


def test_rate_gap_equals_newcombe_pair_by_pair():
    found = stats.rate_gap(("a", "b"), np.array([56, 48]), np.array([70, 80]), 0.975)
    pair = stats.share_difference(56, 70, 48, 80, 0.95)
    assert (found.low, found.high) == pytest.approx((pair.low, pair.high), rel=1e-12)


def test_e_value_is_that_of_the_daily_race():
    losses = RNG.gamma(5, 1, (70, 2)) * [0.8, 1.0]
    import datetime as dt

    days = [Day(dt.date(2026, 1, 1) + dt.timedelta(days=i), champion=b, challenger=a) for i, (a, b) in enumerate(losses)]
    found, race = stats.e_value(losses[:, 0], losses[:, 1]), judge(days)
    assert (found.value, found.best) == pytest.approx((race.e_value, race.best_e_value), rel=1e-12)


def test_e_value_of_equals_rarely_reaches_twenty():
    reached = sum(stats.e_value(*RNG.gamma(5, 1, (2, 200)), block=1).best >= 20 for _ in range(300))
    assert reached <= 23  # 5 % and two and a half standard errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: stats.metric(Y, A[:-1], "rmse"), DataUnusable, "row counts differ"),
        (lambda: stats.metric(Y, A, "rsme"), ConfigError, "did you mean"),
        (lambda: stats.metric([], [], "rmse", task="regression"), NotEnough, "empty"),
        (lambda: stats.difference(Y, A, None, "rmse"), DataUnusable, "baseline_pred is None"),
        (lambda: stats.metric(Y, A, "rmse", confidence=95), ConfigError, "between 0.5 and 1"),
        (lambda: stats.expected_calibration_error(LABEL, P * 3), DataUnusable, "between 0 and 1"),
        (lambda: stats.demographic_parity_ratio(LABEL, P, ["a"] * N), NotEnough, "two groups"),
        (
            lambda: stats.equal_opportunity_difference(LABEL, P, np.where(LABEL, "a", "b")),
            NotEnough,
            "two groups with positives",
        ),
        (lambda: stats.quantile_interval([1.0, float("nan")], 0.5), DataUnusable, "NaN"),
        (lambda: stats.quantile_interval([1.0, 2.0], 99), ConfigError, "between 0 and 1"),
        (lambda: stats.wilson(5, 3), DataUnusable, "no share"),
        (lambda: stats.e_value([1.0, 2.0], [1.0]), DataUnusable, "row counts differ"),
        (lambda: stats.e_value([-1.0], [1.0]), DataUnusable, "negative"),
        (lambda: stats.observed_expected([0, 1], [0.5]), DataUnusable, "row counts differ"),
    ],
)
def test_what_cannot_be_estimated_says_why(call, error, words):
    with pytest.raises(error, match=words):
        call()
