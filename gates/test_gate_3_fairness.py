"""Gate 3: group parity, where the domain is regulated."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("fairness")
def test_gate_3_fairness(request, model_settings, thresholds, judge):
    if not model_settings.regulated:
        how = 'set regulated = true and sensitive = ["COLUMN"] in the settings to judge it'
        judge.skip("fairness", f'domain "{model_settings.domain}" is not regulated', how)
    holdout = request.getfixturevalue("holdout")
    judge(
        checks.fairness(
            holdout.y,
            request.getfixturevalue("predictions"),
            holdout.sensitive,
            min_parity_ratio=thresholds.fairness.min_parity_ratio,
            max_tpr_gap=thresholds.fairness.max_tpr_gap,
            decision_threshold=thresholds.fairness.cutoff,
            task=model_settings.task,
            confidence=model_settings.confidence,
        )
    )
