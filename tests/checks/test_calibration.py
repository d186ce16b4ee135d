"""Gate 5: debiased error with bounds, and the mis-calibrations that an average hides."""

import numpy as np
import pytest

from pytest_mlgates.checks import calibration
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import Verdict


def scores(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-0.4, 1.3, n)))
    return rng, p


def test_calibrated_passes_and_shifted_fails():
    rng, p = scores()
    y = rng.random(p.size) < p
    good = calibration(y, p)
    assert good.verdict is Verdict.PASS
    assert good.low <= good.estimate <= good.high <= 0.1
    assert good.summary.startswith("ECE 0.0")
    bad = calibration(y, np.minimum(p + 0.2, 1))
    assert bad.verdict is Verdict.FAIL
    assert "refit the calibrator" in bad.hint
    assert bad.low > 0.1


def test_few_rows_of_a_calibrated_model_do_not_fail():
    """100 rows: the plug-in error alone fails half of the time."""
    rng, _ = scores()
    verdicts, naive = set(), 0
    for _ in range(60):
        p = 1 / (1 + np.exp(-rng.normal(-0.4, 1.3, 100)))
        found = calibration(rng.random(100) < p, p)
        verdicts.add(found.verdict)
        naive += found.details["ece"]["plug_in"] >= 0.1
    assert Verdict.FAIL not in verdicts
    assert naive > 20


def test_inconclusive_tells_the_rows():
    rng, p = scores(150)
    found = calibration(rng.random(150) < p, p)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "rows would settle it" in found.hint


def test_constant_base_rate_fails_though_calibrated():
    rng, p = scores()
    y = rng.random(p.size) < p
    found = calibration(y, np.full(p.size, y.mean()))
    assert found.verdict is Verdict.FAIL
    assert "the same for every row" in found.hint
    assert found.details["ece"]["verdict"] == "pass"


@pytest.mark.parametrize("factor", [3.0, 0.2])
def test_rare_events_off_by_a_factor_fail_though_the_error_is_small(factor):
    rng = np.random.default_rng(1)
    p = 0.02 * np.exp(rng.normal(0, 0.8, 3000) - 0.32)
    y = rng.random(3000) < p
    found = calibration(y, np.minimum(p * factor, 1))
    assert found.details["ece"]["verdict"] == "pass"
    assert found.verdict is Verdict.FAIL
    assert "times as many events" in found.hint


def test_too_few_events_are_inconclusive():
    rng = np.random.default_rng(2)
    p = 0.02 * np.exp(rng.normal(0, 0.8, 100) - 0.32)
    y = np.zeros(100, bool)
    y[[int(p.argmax()), 3]] = True
    assert calibration(y, p).verdict is Verdict.INCONCLUSIVE


def test_a_slice_that_the_average_hides_is_named():
    rng, p = scores()
    group = np.where(rng.random(p.size) < 0.5, "north", "south")
    p = np.clip(p, 0.2, 0.8)
    y = rng.random(p.size) < p + np.where(group == "north", 0.18, -0.18)
    assert calibration(y, p).verdict is Verdict.PASS
    found = calibration(y, p, slices={"region": group})
    assert found.verdict is Verdict.FAIL
    assert "region=north" in found.hint
    assert "region=south" in found.hint
    fine = calibration(rng.random(p.size) < p, p, slices={"region": group})
    assert fine.verdict is Verdict.PASS


def test_regressor_by_quantile_bins():
    rng = np.random.default_rng(3)
    p = rng.normal(400e3, 80e3, 1095)
    y = p + rng.normal(0, 30e3, 1095)
    good = calibration(y, p, task="regression")
    assert good.verdict is Verdict.PASS
    assert len(good.details["bins"]) == 10
    assert calibration(1.2 * y, p, task="regression").verdict is Verdict.FAIL
    # right on average, wrong at both ends
    assert calibration(400e3 + 0.3 * (y - 400e3), p, task="regression").details["ece"]["verdict"] == "fail"


def test_bins_make_a_reliability_diagram():
    rng, p = scores()
    found = calibration(rng.random(p.size) < p, p, bins=5)
    assert sum(b["n"] for b in found.details["bins"]) == p.size
    assert all(b["half_width"] > 0 for b in found.details["bins"])
    assert found.details["brier_skill"] > 0.1
    assert found.details["observed_expected"]["low"] < 1 < found.details["observed_expected"]["high"]


def test_multiclass_top_label_and_class_wise():
    rng = np.random.default_rng(4)
    p = rng.dirichlet([1, 1, 2], 3000)
    y = np.array(["a", "b", "c"])[[rng.choice(3, p=row) for row in p]]
    good = calibration(y, p, task="multiclass")
    assert good.verdict is Verdict.PASS
    assert set(good.details["class_wise"]) == {"a", "b", "c"}
    sharp = p**6 / (p**6).sum(axis=1, keepdims=True)
    assert calibration(y, sharp, task="multiclass").verdict is Verdict.FAIL


def test_scores_that_are_no_probabilities_are_an_error():
    rng, p = scores()
    found = calibration(rng.random(p.size) < p, p * 3)
    assert found.verdict is Verdict.ERROR
    assert "probabilities between 0 and 1" in found.hint


@pytest.mark.parametrize(
    "wrong", [{"bins": 0}, {"bins": 2.5}, {"max_ece": -1}, {"max_ece": float("nan")}, {"max_oe": 0.5}, {"task": "x"}]
)
def test_wrong_settings(wrong):
    with pytest.raises(ConfigError):
        calibration([0, 1], [0.1, 0.9], **wrong)
