"""Gate 2: the version still answers what it answered when it was made, and has not seen the holdout."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("holdout")
def test_gate_2_holdout(candidate, thresholds, holdout, predictions, judge):
    expected, reason = candidate.expected(holdout)
    if expected is None:
        judge.skip("holdout", *reason.split("; ", 1))
    judge(
        checks.holdout(
            predictions,
            expected,
            max_gap=thresholds.holdout.max_gap,
            train_hashes=candidate.training_rows,
            holdout_hashes=checks.row_hashes(candidate.x(holdout.frame).assign(**{holdout.target: holdout.y})),
        )
    )
