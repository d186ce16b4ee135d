"""Gate 1: the candidate against the baseline, on the same rows of the permanent holdout."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("performance")
def test_gate_1_performance(model_settings, thresholds, holdout, predictions, baseline, looks, judge):
    limits = thresholds.performance
    if baseline.predictions is None and limits.floor is None:
        how = 'name baseline = "models:/NAME/Production" in the settings, or a floor for gates.performance'
        judge.skip("performance", f"nothing to compare with: {baseline.reason}", how)
    judge(
        checks.performance(
            holdout.y,
            predictions,
            baseline.predictions,
            metric=model_settings.metric,
            min_ratio=limits.min_ratio,
            floor=limits.floor,
            confidence=model_settings.confidence,
            task=model_settings.task,
            looks=looks,
        )
    )
