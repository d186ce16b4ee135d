"""Agreement with independent implementations, to 1e-12, and with published numbers."""

import itertools

import fairlearn.metrics as fm
import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps
from sklearn import metrics as skm

from pytest_mlgates import stats
from pytest_mlgates.stats.metrics import Problem, r2_terms

TIGHT = {"rel": 1e-12, "abs": 1e-12}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("r2", skm.r2_score),
        ("rmse", skm.root_mean_squared_error),
        ("mae", skm.mean_absolute_error),
        ("mape", skm.mean_absolute_percentage_error),
    ],
)
def test_regression_metrics_equal_scikit_learn(rng, name, theirs):
    y = rng.normal(4e5, 8e4, 501)
    p = y + rng.normal(1e3, 3e4, 501)
    found = stats.terms(name, Problem.of("regression", y), p)
    assert found.value == pytest.approx(theirs(y, p), **TIGHT)
    assert found.influence.sum() == pytest.approx(0, abs=1e-6 * abs(found.value) * 501)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("auc", skm.roc_auc_score),
        ("log_loss", skm.log_loss),
        ("brier", skm.brier_score_loss),
        ("accuracy", lambda y, p: skm.accuracy_score(y, p >= 0.5)),
        ("f1", lambda y, p: skm.f1_score(y, p >= 0.5)),
    ],
)
@pytest.mark.parametrize("ties", [False, True])
def test_binary_metrics_equal_scikit_learn(rng, name, theirs, ties):
    p = rng.random(400)
    p = np.round(p, 1) if ties else p
    y = rng.random(400) < p
    assert stats.terms(name, Problem.of("binary", y), p).value == pytest.approx(theirs(y, p), **TIGHT)


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier", "accuracy", "f1"])
def test_multiclass_metrics_equal_scikit_learn(rng, name):
    p = rng.dirichlet([1, 2, 3], 500)
    y = np.array([rng.choice(3, p=row) for row in p])
    top = p.argmax(axis=1)
    theirs = {
        "auc": lambda: skm.roc_auc_score(y, p, multi_class="ovr"),
        "log_loss": lambda: skm.log_loss(y, p),
        "brier": lambda: float(((np.eye(3)[y] - p) ** 2).sum(axis=1).mean()),
        "accuracy": lambda: skm.accuracy_score(y, top),
        "f1": lambda: skm.f1_score(y, top, average="macro"),
    }[name]()
    labels = np.array(["a", "b", "c"])[y]
    assert stats.terms(name, Problem.of("multiclass", labels), p).value == pytest.approx(theirs, **TIGHT)


# 43 complete records of 49 patients: albumin, total protein, K-G score (10 minus it is judged), outcome. From DeLong, DeLong
# and Clarke-Pearson (1988), as reproduced in SAS/STAT User's Guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves".
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def test_delong_gives_the_published_numbers():
    data = np.array(OVARIAN.split(), float).reshape(-1, 4)
    ill = data[:, 3] == 1
    score = {"albumin": data[:, 0], "protein": data[:, 1], "kg": 10 - data[:, 2]}
    published = {"albumin": (0.7366, 0.0927), "kg": (0.7258, 0.1028), "protein": (0.6478, 0.1000)}
    for name, (area, se) in published.items():
        found = stats.auc(ill, score[name])
        assert (round(found.value, 4), round(found.se, 4)) == (area, se), name
    for name, gap, se, chi2 in (("albumin", 0.0108, 0.0953, 0.0127), ("protein", -0.0780, 0.1046, 0.5554)):
        found = stats.auc_difference(ill, score[name], score["kg"])
        assert (round(found.value, 4), round(found.se, 4), round((found.value / found.se) ** 2, 4)) == (gap, se, chi2), name


def test_delong_equals_its_definition_by_pairs(rng):
    y = rng.random(80) < 0.3
    one, two = np.round(rng.normal(y, 1), 1), np.round(rng.normal(y, 1), 1)

    def kernel(s):
        pos, neg = s[y][:, None], s[~y][None, :]
        return (pos > neg) + 0.5 * (pos == neg)

    a, b = kernel(one), kernel(two)
    d10, d01 = a.mean(1) - 0.9 * b.mean(1), a.mean(0) - 0.9 * b.mean(0)
    se = np.sqrt(d10.var(ddof=1) / y.sum() + d01.var(ddof=1) / (~y).sum())
    found = stats.auc_difference(y, one, two, ratio=0.9)
    assert found.value == pytest.approx(a.mean() - 0.9 * b.mean(), **TIGHT)
    assert found.se == pytest.approx(se, **TIGHT)


def test_paired_auc_margin_of_compare_is_delongs(rng):
    y = rng.random(200) < 0.3
    one, two = rng.random(200), rng.random(200) * 0.5 + 0.4 * y
    margin = stats.compare("auc", Problem.of("binary", y), one, two, min_ratio=0.95).margin
    delong = stats.auc_difference(y, one, two, ratio=0.95)
    assert margin.value == pytest.approx(delong.value, **TIGHT)
    assert margin.se == pytest.approx(delong.se, **TIGHT)


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_parity_and_gaps_equal_fairlearn(rng, groups):
    n = 900
    group = rng.integers(0, groups, n)
    y, p = rng.random(n) < 0.4, rng.random(n) < 0.2 + 0.5 * group / groups
    names, codes = stats.group_codes(group)
    table = stats.group_table(names, codes, y, p)
    assert stats.parity_ratio(table).value == pytest.approx(
        fm.demographic_parity_ratio(y, p, sensitive_features=group), **TIGHT
    )
    tpr = stats.rate_gap(names, table.true_positives, table.positives)
    fpr = stats.rate_gap(names, table.false_positives, table.negatives)
    assert tpr.value == pytest.approx(fm.equal_opportunity_difference(y, p, sensitive_features=group), **TIGHT)
    odds = fm.equalized_odds_difference(y, p, sensitive_features=group)
    assert max(tpr.value, fpr.value) == pytest.approx(odds, **TIGHT)


def test_ece_equals_the_plug_in_formula(rng):
    p = np.concatenate([rng.random(1000), np.linspace(0, 1, 11)])
    y = rng.random(p.size) < p
    expected = 0.0
    edges = np.linspace(0, 1, 11)
    for low, high in itertools.pairwise(edges):
        here = (p > low) & (p <= high) if low > 0 else (p >= low) & (p <= high)
        expected += abs(y[here].mean() - p[here].mean()) * here.mean()
    assert stats.calibration_error(stats.probability_bins(y, p)).plug_in == pytest.approx(expected, **TIGHT)


def test_regression_ece_equals_the_tutorials_formula(rng):
    p = rng.normal(400, 80, 1000)
    y = p * 1.05 + rng.normal(0, 30, 1000)
    frame = pd.DataFrame({"y": y, "p": p, "bin": pd.qcut(p, 10, labels=False)})
    means = frame.groupby("bin").mean()
    share = frame.groupby("bin").size() / 1000
    expected = ((means.y - means.p).abs() * share).sum() / np.abs(y).mean()
    found = stats.calibration_error(stats.quantile_bins(y, p))
    assert found.plug_in == pytest.approx(expected, **TIGHT)


def test_folded_normal_bias_equals_scipy():
    from pytest_mlgates.stats.calibration import folded_mean

    for mean, sd in ((0.0, 1.0), (0.3, 0.2), (2.0, 0.1)):
        assert folded_mean(np.array([mean]), np.array([sd]))[0] == pytest.approx(
            sps.foldnorm(mean / sd, scale=sd).mean(), rel=1e-9
        )


@pytest.mark.parametrize(("n", "q"), [(20, 0.5), (100, 0.9), (299, 0.99), (1000, 0.99), (5000, 0.999)])
def test_order_statistics_cover_by_the_binomial(n, q):
    """The chosen ranks are the tightest whose tail probabilities, by scipy.stats.binom, are within 2.5 % each."""
    values = np.arange(1.0, n + 1)
    found = stats.quantile_interval(values, q)
    below = sps.binom(n, q)
    if np.isfinite(found.low):
        r = int(found.low)
        assert below.cdf(r - 1) <= 0.025 < below.cdf(r)
    else:
        assert below.cdf(0) > 0.025
    if np.isfinite(found.high):
        s = int(found.high)
        assert below.sf(s - 1) <= 0.025 < below.sf(s - 2)
    else:
        assert below.sf(n - 1) > 0.025


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 40), (40, 40), (12, 1000)])
def test_share_intervals_equal_scipy(hits, n):
    exact = sps.binomtest(hits, n).proportion_ci(0.9, method="exact")
    assert stats.share_bounds(hits, n, 0.95) == pytest.approx((exact.low, exact.high), rel=1e-9)
    wilson = sps.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert (stats.wilson(hits, n).low, stats.wilson(hits, n).high) == pytest.approx(
        (wilson.low, wilson.high), rel=1e-9, abs=1e-12
    )


def test_newcombe_gives_the_published_interval():
    """Newcombe (1998), table II (a): 56/70 - 48/80 = 0.2000 (0.0524, 0.3339) by method 10."""
    found = stats.share_difference(56, 70, 48, 80)
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.2, 0.0524, 0.3339)


def test_brier_skill_is_r2_of_zero_one_outcomes(rng):
    p = rng.random(300)
    y = (rng.random(300) < p).astype(float)
    expected = 1 - ((y - p) ** 2).mean() / ((y - y.mean()) ** 2).mean()
    assert r2_terms(y, p).value == pytest.approx(expected, **TIGHT)
