"""Do the thresholds have teeth? The configured gates on known-bad mutants of a model version."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_mlgates import checks, proving
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.services.thresholds import arguments_of

if TYPE_CHECKING:
    from pytest_mlgates.services.evaluate import Baseline, Candidate, Holdout

GATE = "proving"
TIMED_CALLS = 1000


def prove(candidate: Candidate, holdout: Holdout, baseline: Baseline) -> proving.ProofReport:
    """Build the mutants of a version and run the gates that its settings configure on each."""
    settings = candidate.settings
    predictions = candidate.predictions(holdout)
    expected, _ = candidate.expected(holdout)
    suspect = proving.Suspect(
        y_pred=predictions,
        expected_pred=expected,
        train_hashes=candidate.training_rows,
        holdout_hashes=candidate.hashes(holdout),
        seconds=_call_times(candidate, holdout),
    )
    sensitive = holdout.sensitive if settings.regulated else None
    mutants = proving.mutants_of(
        suspect, holdout.y, task=settings.task, frame=candidate.x(holdout.frame), predict=candidate.predict, sensitive=sensitive
    )
    further = []
    if settings.checks.applies("weak_slices"):
        further.append(
            lambda s: checks.weak_slices(
                holdout.y,
                s.y_pred,
                candidate.x(holdout.frame),
                task=settings.task,
                max_ratio=settings.checks.max_slice_ratio,
                confidence=settings.confidence,
            )
        )
    run = checks.gate_runner(
        holdout.y,
        task=settings.task,
        baseline_pred=baseline.predictions,
        sensitive=sensitive,
        further=further,
        **arguments_of(settings),
    )
    return proving.prove(suspect, mutants, run, inconclusive_blocks=settings.on_inconclusive == "block")


def proof_result(report: proving.ProofReport) -> GateResult:
    """The proof as one result: the share of mutants that some gate killed, against all of them."""
    hint = "; ".join(
        f"{o.name} ({o.what}) survives: {o.would_kill or 'no threshold in force would kill it'}" for o in report.survivors
    )
    return GateResult(
        GATE,
        Verdict.FAIL if report.survivors else Verdict.PASS,
        report.kill_score,
        threshold=1.0,
        n=len(report.outcomes),
        method="mutants of the candidate through the configured gates",
        hint=hint,
        summary=report.summary,
        details=report.to_dict(),
    )


def _call_times(candidate: Candidate, holdout: Holdout) -> Any:
    """Seconds of single-row calls, as a client would send them; shape (calls,)."""
    rows = candidate.x(holdout.frame)
    requests = [rows.iloc[[i]] for i in range(min(len(rows), TIMED_CALLS))]
    candidate.predictor.predict(requests[0])
    times = np.empty(TIMED_CALLS)
    for call in range(TIMED_CALLS):
        begin = time.thread_time()  # CPU seconds: what other processes take says nothing about the gates
        candidate.predictor.predict(requests[call % len(requests)])
        times[call] = time.thread_time() - begin
    return times
