"""The judge: percentiles, bounds, verdicts, and when a measurement is not worth judging."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_mlgates import load
from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.results import Verdict


def samples(latency_s, *, kinds=None, lag_s=None, rate=100.0):
    latency = np.asarray(latency_s, dtype=float)
    n = len(latency)
    lag = np.zeros(n) if lag_s is None else np.asarray(lag_s, dtype=float)
    return load.Samples(np.arange(n) / rate, latency, latency, lag, kinds or [""] * n)


def spread(n, slow, *, every=1):
    """``n`` calls of 10 ms, ``slow`` of them 300 ms, evenly apart."""
    latency = np.full(n, 0.010)
    if slow:
        latency[:: n // slow][:slow] = 0.300
    return latency


def test_fast_calls_pass_and_the_percentiles_are_right():
    latency = np.arange(1, 1001) / 1e5
    summary = load.judge(samples(latency), objective_ms=200, concurrency=8)
    assert summary.verdict is Verdict.PASS
    assert summary.quantiles["p50"].value == pytest.approx(5.005)
    assert summary.quantiles["p99"].low < 9.9 < summary.quantiles["p99"].high
    assert summary.quantiles["p99_9"].high == float("inf")
    assert summary.to_dict()["p99_9_high_ms"] is None


@pytest.mark.parametrize(("slow", "verdict"), [(0, Verdict.PASS), (12, Verdict.INCONCLUSIVE), (60, Verdict.FAIL)])
def test_the_share_over_the_objective_decides(slow, verdict):
    assert load.judge(samples(spread(1000, slow)), objective_ms=200).verdict is verdict


def test_a_true_1_25_percent_does_not_pass():
    """A p99 of 1,000 calls alone would pass it one time in five."""
    rng = np.random.default_rng(0)
    verdicts = [
        load.judge(samples(np.where(rng.random(1000) < 0.0125, 0.3, 0.01)), objective_ms=200).verdict for _ in range(300)
    ]
    assert verdicts.count(Verdict.PASS) == 0


def test_slow_calls_in_runs_count_for_less():
    latency = np.full(4000, 0.010)
    latency[1000:1016] = 0.300
    alone = load.judge(samples(spread(4000, 16)), objective_ms=200, concurrency=8)
    together = load.judge(samples(latency), objective_ms=200, concurrency=8)
    assert together.tail.pass_effect > alone.tail.pass_effect
    assert together.tail.high > alone.tail.high


def test_one_error_fails_however_fast_it_came():
    summary = load.judge(samples(spread(1000, 0), kinds=["status_500"] + [""] * 999), objective_ms=200)
    assert (summary.verdict, summary.errors, summary.error_kinds) == (Verdict.FAIL, 1, {"status_500": 1})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"lag_s": np.full(1000, 0.030)}, "late"),
        ({"rate": 50.0, "asked": 100.0}, "reached"),
        ({"cpu": 0.9}, "core"),
    ],
)
def test_a_generator_that_was_the_bottleneck_makes_the_result_invalid_not_failed(changes, word):
    asked, cpu = changes.pop("asked", None), changes.pop("cpu", 0.1)
    summary = load.judge(
        samples(spread(1000, 500), **changes), objective_ms=200, asked_rate_per_s=asked, generator=load.Generator(cpu, 0.1)
    )
    assert not summary.valid
    assert word in summary.problems[0]
    assert summary.verdict is Verdict.INCONCLUSIVE


def test_no_calls_cannot_be_judged():
    with pytest.raises(DataUnusable):
        load.judge(samples([]))


def test_the_gate_carries_the_numbers():
    gate = load.to_gate_result(load.judge(samples(spread(1000, 60)), objective_ms=200, model="m", version="2"))
    assert (gate.gate, gate.verdict, gate.threshold, gate.n, gate.version) == ("endpoint_load", Verdict.FAIL, 0.01, 1000, "2")
    assert gate.estimate == pytest.approx(0.06)
    assert set(gate.details) >= {
        "n",
        "errors",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "p99_low_ms",
        "p99_high_ms",
        "rate_per_s",
        "valid",
        "verdict",
    }
