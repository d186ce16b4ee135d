"""Gate 2: the version still answers what it answered when it was made, and has not seen the holdout."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("holdout")
def test_gate_2_holdout(candidate, thresholds, holdout, predictions, judge):
    limits = thresholds.holdout
    expected, reason = candidate.expected(holdout)
    result = checks.holdout(
        predictions,
        expected,
        max_gap=limits.max_gap,
        exact=limits.exact,
        train_hashes=candidate.training_rows,
        holdout_hashes=candidate.hashes(holdout),
        max_overlap=limits.max_shared_rows,
    )
    if expected is None and result.verdict == "skip":
        judge.skip("holdout", *reason.split("; ", 1))
    judge(result)
