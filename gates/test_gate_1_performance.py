"""Gate 1: the candidate against the baseline, on the same rows of the permanent holdout."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("performance")
def test_gate_1_performance(model_settings, limits, holdout, predictions, baseline, judge):
    if baseline.predictions is None and limits["performance"]["floor"] is None:
        how = 'name baseline = "models:/NAME/Production" in the settings, or a floor for gates.performance'
        judge.skip("performance", f"nothing to compare with: {baseline.reason}", how)
    judge(checks.performance(holdout.y, predictions, baseline.predictions, task=model_settings.task, **limits["performance"]))
