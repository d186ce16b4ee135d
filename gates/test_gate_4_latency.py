"""Gate 4: one row at a time, as a client would send it, on the locally loaded model."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("latency")
def test_gate_4_latency(candidate, thresholds, limits, rows, judge):
    spent = thresholds.latency
    requests = [rows.iloc[[i]] for i in range(min(len(rows), 1000))]
    judge(
        checks.measure_latency(
            lambda call: candidate.predictor.predict(requests[call % len(requests)]),
            calls=spent.calls,
            max_calls=spent.max_calls,
            budget_s=spent.budget_s,
            **limits["latency"],
        )
    )
