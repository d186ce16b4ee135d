"""Gate 3: group parity, where the domain is regulated."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("fairness")
def test_gate_3_fairness(request, model_settings, judge):
    if not model_settings.regulated:
        how = 'set regulated = true and sensitive = ["COLUMN"] in the settings to judge it'
        judge.skip("fairness", f'domain "{model_settings.domain}" is not regulated', how)
    holdout, predictions, limits = (request.getfixturevalue(name) for name in ("holdout", "predictions", "limits"))
    judge(checks.fairness(holdout.y, predictions, holdout.sensitive, task=model_settings.task, **limits["fairness"]))
