"""Gate 4: one row at a time, as a client would send it, on the locally loaded model."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("latency")
def test_gate_4_latency(candidate, thresholds, rows, judge):
    limits = thresholds.latency
    requests = [rows.iloc[[i]] for i in range(min(len(rows), 1000))]
    judge(
        checks.measure_latency(
            lambda call: candidate.predictor.predict(requests[call % len(requests)]),
            calls=limits.calls,
            p99_max=limits.p99_max_ms / 1000,
            max_calls=limits.max_calls,
            budget_s=limits.budget_s,
        )
    )
