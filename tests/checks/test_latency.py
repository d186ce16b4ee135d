"""Gate 4: the share of slow calls is bounded, bursts count for less, and the measurement controls itself."""

import gc
import math

import numpy as np
import pytest

from pytest_mlgates.checks import latency, measure_latency
from pytest_mlgates.errors import ConfigError, ModelUnusable
from pytest_mlgates.results import Verdict


def fast(n, slow=0):
    times = np.random.default_rng(0).uniform(0.010, 0.012, n)
    if slow:
        times[:: n // slow] = 0.5
    return times


def test_far_below_the_objective_passes_at_1000_calls():
    found = latency(fast(1000))
    assert found.verdict is Verdict.PASS
    assert found.estimate == pytest.approx(0.012, abs=1e-4)
    assert "p99 12.0 ms" in found.summary


@pytest.mark.parametrize("n", [1, 50, 298, 458])
def test_too_few_calls_never_pass(n):
    found = latency(fast(n))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "calls would settle it" in found.hint


def test_299_calls_pass_when_looked_at_once():
    assert latency(fast(299), looks=1).verdict is Verdict.PASS
    assert latency(fast(298), looks=1).verdict is Verdict.INCONCLUSIVE


def test_five_percent_slow_fails():
    found = latency(fast(1000, slow=50))
    assert found.verdict is Verdict.FAIL
    assert found.details["share_over"]["estimate"] == pytest.approx(0.05)
    assert found.hint


def test_always_slow_fails():
    assert latency(np.full(1000, 0.3)).verdict is Verdict.FAIL


def test_near_the_objective_an_unseen_burst_is_not_excluded_by_1000_calls():
    near = np.random.default_rng(1).uniform(0.1, 0.12, 8000)
    assert latency(near[:1000]).verdict is Verdict.INCONCLUSIVE
    assert latency(near[:4000]).verdict is Verdict.INCONCLUSIVE
    assert latency(near).verdict is Verdict.PASS


def test_errors_count_as_slow_in_both_forms():
    assert latency(fast(1000), errors=60).verdict is Verdict.FAIL
    mask = np.arange(1000) % 20 == 0
    assert latency(fast(1000), errors=mask).verdict is Verdict.FAIL
    assert latency(fast(1000), errors=0).verdict is Verdict.PASS


def test_one_stall_under_concurrency_is_one_event():
    times = fast(4000)
    times[100:164] = 1.0  # 64 calls in flight when it stalled: 1.6 % of calls, one stall
    assert latency(times, concurrency=64).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "wrong", [{"p99_max": 0}, {"p99_max": float("nan")}, {"looks": 0}, {"percentile": 1.0}, {"errors": -1}]
)
def test_wrong_settings(wrong):
    with pytest.raises(ConfigError):
        latency(fast(100), **wrong)


@pytest.mark.parametrize("bad", [[0.1, float("nan")], [-0.1, 0.1], ["a"]])
def test_broken_measurements_are_an_error(bad):
    assert latency(bad).verdict is Verdict.ERROR


class Clock:
    def __init__(self, each):
        self.now, self.each = 0.0, each

    def __call__(self):
        return self.now

    def predict(self, i):
        self.now += self.each(i)


def measured(clock, **kw):
    return measure_latency(clock.predict, clock=clock, threads=None, cpu_wait=lambda: 0.0, **kw)


def test_measuring_stops_at_the_first_look_that_settles():
    clock = Clock(lambda i: 0.010)
    found = measured(clock)
    assert found.verdict is Verdict.PASS
    assert found.n == 1000
    assert found.details["conditions"]["looks_taken"] == 1


@pytest.mark.parametrize(
    ("calls", "max_calls", "looks"), [(300, 300, 1), (300, 600, 2), (300, 500, 1), (1000, 16_000, 5), (300, 10**6, 5)]
)
def test_the_error_is_shared_among_the_looks_that_are_planned(calls, max_calls, looks):
    found = measured(Clock(lambda i: 0.010), calls=calls, max_calls=max_calls)
    assert found.details["share_over"]["alpha"] == pytest.approx(0.05 / looks)
    assert (found.verdict is Verdict.PASS) == (found.n > math.log(0.05 / looks) / math.log(0.99))


def test_measuring_goes_on_until_settled():
    clock = Clock(lambda i: 0.3 if i % 250 == 7 else 0.010)  # 0.4 % over
    found = measured(clock, budget_s=1e6)
    assert found.verdict is Verdict.PASS
    assert found.n in (2000, 4000)


def test_a_spent_budget_is_inconclusive_never_a_pass():
    clock = Clock(lambda i: 0.15)
    found = measured(clock, budget_s=30.0)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.details["conditions"]["budget_spent"] is True
    assert found.n == 201


def test_warm_up_is_left_out():
    calls = []
    clock = Clock(lambda i: 5.0 if len(calls) <= 20 else 0.01)

    def predict(i):
        calls.append(i)
        clock.predict(i)

    found = measure_latency(predict, clock=clock, threads=None, cpu_wait=lambda: 0.0, warm_up=20)
    assert found.verdict is Verdict.PASS
    assert found.details["p99_ms"] == pytest.approx(10)


def test_garbage_collector_is_off_while_timed_and_on_again_after():
    seen = []
    measure_latency(lambda i: seen.append(gc.isenabled()), calls=500, max_calls=500, warm_up=1)
    assert seen[0] is True
    assert not any(seen[1:])
    assert gc.isenabled()


def test_a_model_that_fails_now_and_then_is_counted_one_that_never_answers_is_unusable():
    def flaky(i):
        if i % 10 == 5:
            raise ValueError("no")

    assert measure_latency(flaky, calls=1000).verdict is Verdict.FAIL

    def dead(i):
        raise ValueError("broken")

    with pytest.raises(ModelUnusable, match="did not answer a single row: ValueError: broken"):
        measure_latency(dead)
