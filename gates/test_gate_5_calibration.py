"""Gate 5: predictions mean what they say."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("calibration")
def test_gate_5_calibration(model_settings, thresholds, holdout, predictions, judge):
    limits = thresholds.calibration
    judge(
        checks.calibration(
            holdout.y,
            predictions,
            max_ece=limits.max_ece,
            bins=limits.bins,
            task=model_settings.task,
            confidence=model_settings.confidence,
        )
    )
