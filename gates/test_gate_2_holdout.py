"""Gate 2: the version still answers what it answered when it was made, and has not seen the holdout."""

import pytest

from pytest_mlgates import checks
from pytest_mlgates.services.leakage import leakage_evidence


@pytest.mark.mlgate("holdout")
def test_gate_2_holdout(candidate, limits, holdout, predictions, judge):
    expected, reason = candidate.expected(holdout)
    evidence = leakage_evidence(candidate, holdout, predictions)
    result = checks.holdout(predictions, expected, **evidence, **limits["holdout"])
    if expected is None and result.verdict == "skip":
        judge.skip("holdout", *reason.split("; ", 1))
    judge(result)
