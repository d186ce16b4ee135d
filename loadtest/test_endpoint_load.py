"""Load-test a deployed endpoint as a gate: ``pytest --mlgates-endpoint-uri URI``."""

from collections.abc import Callable

from pytest_mlgates import load
from pytest_mlgates.config import Endpoint
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.services import load_run

LOOKS = (1000, 2000, 4000)


def test_endpoint_load(endpoint: str, endpoint_limits: Endpoint, judge: Callable[[GateResult], None]) -> None:
    """At most 1 % of the calls over the objective, no error; more calls are made until the verdict is settled."""
    for calls in LOOKS:
        summary = load_run.run(
            endpoint, n=calls, concurrency=endpoint_limits.concurrency, objective_ms=endpoint_limits.p99_max_ms
        )
        if summary.verdict is not Verdict.INCONCLUSIVE:
            break
    judge(load.to_gate_result(summary))
