"""Gate 5: predictions mean what they say."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("calibration")
def test_gate_5_calibration(model_settings, limits, holdout, predictions, judge):
    judge(checks.calibration(holdout.y, predictions, task=model_settings.task, **limits["calibration"]))
