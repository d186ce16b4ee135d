"""Gate 3: fairlearn's ratio with bounds, and no verdict where there is nothing to say."""

import fairlearn.metrics as fm
import numpy as np
import pandas as pd
import pytest

from pytest_mlgates.checks import fairness
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import Verdict


def people(n=4000, rate=(0.3, 0.3), seed=0):
    rng = np.random.default_rng(seed)
    group = np.where(rng.random(n) < 0.4, "b", "a")
    p = np.where(rng.random(n) < np.where(group == "a", *rate), 1, 0)
    y = np.where(rng.random(n) < 0.2 + 0.5 * p, 1, 0)
    return y, p, group


def test_fair_passes_and_unfair_fails_with_the_pair_named():
    y, p, group = people()
    assert fairness(y, p, {"group": group}).verdict is Verdict.PASS
    y, p, group = people(rate=(0.4, 0.2))
    found = fairness(y, p, {"group": group})
    assert found.verdict is Verdict.FAIL
    assert "(b / a)" in found.summary
    assert found.low <= found.estimate <= found.high < 0.8


def test_every_attribute_is_judged_and_equals_fairlearn():
    y, p, group = people()
    frame = pd.DataFrame({"group": group, "age": pd.cut(np.random.default_rng(3).normal(size=4000), 3).astype(str)})
    found = fairness(y, p, frame, min_group_rows=1)
    for name in frame.columns:
        part = found.details["attributes"][name]
        assert part["parity_ratio"] == pytest.approx(
            fm.demographic_parity_ratio(y, p, sensitive_features=frame[name]), abs=1e-12
        )
        tpr = fm.equal_opportunity_difference(y, p, sensitive_features=frame[name])
        assert part["equal_opportunity_difference"]["estimate"] == pytest.approx(tpr, abs=1e-12)
        odds = fm.equalized_odds_difference(y, p, sensitive_features=frame[name])
        assert part["equalized_odds_difference"]["estimate"] == pytest.approx(odds, abs=1e-12)


def test_probabilities_are_cut():
    y, p, group = people()
    soft = np.where(p == 1, 0.7, 0.3)
    assert fairness(y, soft, group).estimate == fairness(y, p, group).estimate
    assert fairness(y, np.c_[1 - soft, soft], group).estimate == fairness(y, p, group).estimate


def test_small_minority_is_inconclusive_and_told_how_many_rows():
    rng = np.random.default_rng(1)
    group = np.where(np.arange(600) < 30, "few", "many")
    found = fairness(rng.integers(0, 2, 600), rng.integers(0, 2, 600), {"g": group})
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "rows would settle it" in found.hint


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("one group", "1 group, expected at least two"),
        ("all negative", "nobody is selected"),
        ("one person", "'x' (1 rows)"),
        ("missing", "have no value"),
    ],
)
def test_undefined_is_inconclusive_never_a_pass(case, words):
    y, p, group = people()
    group = group.astype(object)
    if case == "one group":
        group[:] = "a"
    elif case == "all negative":
        p = np.zeros_like(p)
    elif case == "one person":
        group[0] = "x"
    else:
        group[:400] = None
    found = fairness(y, p, {"g": group})
    assert found.verdict is Verdict.INCONCLUSIVE
    assert words in found.hint


def test_labels_other_than_two_are_an_error():
    y, p, group = people()
    assert fairness(y, p * 3, group).verdict is Verdict.ERROR
    assert fairness(np.arange(4000) % 3, p, group).verdict is Verdict.ERROR


def test_group_without_positives_is_named_not_given_a_rate():
    y, p, group = people()
    y[group == "b"] = 0
    part = fairness(y, p, {"g": group}).details["attributes"]["g"]
    assert part["undefined_tpr"] == ["b"]
    assert part["equal_opportunity_difference"] is None
    assert fairness(y, p, {"g": group}, max_tpr_gap=0.1).verdict is Verdict.INCONCLUSIVE


def test_equal_opportunity_gap_is_judged_when_set():
    rng = np.random.default_rng(5)
    group = np.where(rng.random(6000) < 0.5, "a", "b")
    y = rng.integers(0, 2, 6000)
    # the same selection rate in both groups, but right for a and random for b
    p = np.where(group == "a", y, rng.integers(0, 2, 6000))
    assert fairness(y, p, {"g": group}).verdict is Verdict.PASS
    found = fairness(y, p, {"g": group}, max_tpr_gap=0.2)
    assert found.verdict is Verdict.FAIL
    assert "equal opportunity" in found.hint


def test_regressor_errors_per_group():
    rng = np.random.default_rng(6)
    group = np.where(rng.random(3000) < 0.3, "b", "a")
    y = rng.normal(400, 80, 3000)
    even = fairness(y, y + rng.normal(0, 20, 3000), {"g": group}, task="regression")
    assert even.verdict is Verdict.PASS
    uneven = fairness(y, y + rng.normal(0, 20, 3000) * np.where(group == "a", 1, 2), {"g": group}, task="regression")
    assert uneven.verdict is Verdict.FAIL


def test_no_attribute_is_a_skip():
    y, p, _ = people(100)
    assert fairness(y, p, None).verdict is Verdict.SKIP
    assert fairness(y, p, {}).verdict is Verdict.SKIP


def test_multiclass_needs_the_selected_label():
    rng = np.random.default_rng(7)
    y, p, group = rng.choice(["lo", "mid", "hi"], 3000), rng.choice(["lo", "mid", "hi"], 3000), rng.choice(["a", "b"], 3000)
    assert fairness(y, p, group, task="multiclass").verdict is Verdict.ERROR
    assert fairness(y, p, group, task="multiclass", positive="hi").verdict is Verdict.PASS


def test_wrong_settings():
    y, p, group = people(100)
    for wrong in ({"min_parity_ratio": 1.2}, {"min_parity_ratio": float("nan")}, {"confidence": 0.3}, {"max_tpr_gap": -1}):
        with pytest.raises(ConfigError):
            fairness(y, p, group, **wrong)
