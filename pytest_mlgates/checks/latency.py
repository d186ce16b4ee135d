"""Gate 4: whether one prediction comes back in time, 99 times in 100."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlgates.checks import pictures
from pytest_mlgates.checks.verdicts import at_most, check, limit
from pytest_mlgates.errors import ConfigError, DataUnusable, ModelUnusable
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import FEWEST_CALLS, LOOKS, NotEnough, TailShare, arrays, quantile_interval, tail_share
from pytest_mlgates.stats.interval import check_confidence
from pytest_mlgates.stats.tail import planned_looks

GATE = "latency"


@check(GATE)
def latency(
    seconds: Any,
    *,
    p99_max: float = 0.2,
    errors: Any = None,
    concurrency: int = 1,
    looks: int = len(LOOKS),
    confidence: float = 0.95,
    percentile: float = 0.99,
    conditions: dict[str, Any] | None = None,
) -> GateResult:
    """Judge measured latencies against a p99 objective.

    Parameters
    ----------
    seconds : array-like, shape (n,)
        Durations in the order of the calls, in seconds, warm-up left out.
    p99_max
        Objective in seconds.
    errors : int or array-like of bool, shape (n,)
        Calls that failed: a number of further calls, or a mask over ``seconds``. They count as over the objective.
    concurrency
        Calls that were in flight at once.
    looks
        How often the data are looked at in all, this time included or not: each look has (1 - confidence) / looks.
    confidence
        Over all looks together.
    percentile
        As a share; 0.99 is a p99.
    conditions
        What was recorded of the measurement; goes to ``details``.

    Returns
    -------
    GateResult
        ``estimate``, ``low`` and ``high`` are the percentile in seconds with its order-statistic interval; the verdict
        is made on the share of calls over the objective (``details["share_over"]``), which needs no density. Never PASS
        on fewer than 299 calls.

    Raises
    ------
    ConfigError
        Settings that make no sense.
    """
    objective = limit("p99_max", p99_max)
    q = limit("percentile", percentile, most=0.9999)
    if concurrency < 1 or looks < 1:
        raise ConfigError(f"concurrency is {concurrency!r} and looks is {looks!r}, expected at least 1")
    alpha = (1 - check_confidence(confidence)) / looks
    times = arrays.finite("seconds", seconds)
    if float(times.min()) < 0:
        raise DataUnusable(f"seconds has negative values (least {float(times.min()):.4g}), expected durations")
    times, failed = _with_errors(times, errors, objective)
    tail = tail_share(times, objective, failed=failed, concurrency=concurrency, alpha=alpha, q=q)
    verdict = at_most(tail.low, tail.high, 1 - q)
    fewest = int(np.ceil(np.log(0.05) / np.log(q)))
    if verdict is Verdict.PASS and tail.calls < max(fewest, FEWEST_CALLS if q == 0.99 else fewest):
        verdict = Verdict.INCONCLUSIVE
    return _result(times, tail, verdict, objective, q, confidence, alpha, conditions or {})


def _with_errors(times: arrays.Floats, errors: Any, objective: float) -> tuple[arrays.Floats, arrays.Bools]:
    if errors is None:
        return times, np.zeros(times.size, dtype=np.bool_)
    if isinstance(errors, (int, float, np.number)):
        if not (math.isfinite(errors) and errors >= 0 and errors == int(errors)):
            raise ConfigError(f"errors is {errors!r}, expected a number of calls or a mask")
        extra = int(errors)
        # where in the run they happened is not known: spread evenly, which is the reading that claims no burst
        places = np.linspace(0, times.size, extra).astype(np.intp)
        failed = np.insert(np.zeros(times.size, dtype=np.bool_), places, True)
        return np.insert(times, places, objective), failed
    mask = arrays.finite("errors", errors) != 0
    arrays.same_length(seconds=times, errors=mask)
    return times, mask


def _result(
    times: arrays.Floats,
    tail: TailShare,
    verdict: Verdict,
    objective: float,
    q: float,
    confidence: float,
    alpha: float,
    conditions: dict[str, Any],
) -> GateResult:
    p = quantile_interval(times, q, confidence)
    name = f"p{q * 100:g}"
    allowed = f"{100 * (1 - q):.3g} %"
    sign = {Verdict.PASS: "≤", Verdict.FAIL: ">"}.get(verdict, "not settled against")
    high = f"{p.high * 1e3:.1f}" if np.isfinite(p.high) else "?"
    summary = (
        f"{name} {p.value * 1e3:.1f} ms (95% CI {max(p.low, 0) * 1e3:.1f}–{high}) {sign} {objective * 1e3:g} ms; "
        f"{100 * tail.share:.2f} % of {tail.calls:,} calls over (bounds {100 * tail.low:.2f}–{100 * tail.high:.2f} %, {allowed} allowed)"
    ).replace("95% CI", f"{100 * confidence:.4g}% CI")
    wall, waited = conditions.get("wall_s") or 0.0, conditions.get("cpu_wait_s") or 0.0
    if waited > 0.02 * wall:
        summary += f"; {waited / wall:.0%} of the time, spent waiting for a CPU that others held, left out"
    details = {
        "share_over": {"estimate": tail.share, "low": tail.low, "high": tail.high, "allowed": 1 - q, "alpha": alpha},
        "calls": tail.calls,
        "over": tail.over,
        "runs_of_slow_calls": tail.runs,
        "design_effect": {"pass": tail.pass_effect, "fail": tail.fail_effect},
        "p50_ms": float(np.quantile(times, 0.5)) * 1e3,
        "p95_ms": float(np.quantile(times, 0.95)) * 1e3,
        "p99_ms": float(np.quantile(times, 0.99)) * 1e3,
        "histogram": pictures.latency_histogram(times),
        "conditions": conditions,
    }
    hint = ""
    if verdict is Verdict.FAIL:
        hint = "shrink the model, predict natively instead of through pandas, or pin its threads; raise p99_max_ms only if users can wait"
    elif verdict is Verdict.INCONCLUSIVE:
        hint = _calls_hint(tail, alpha, q)
    method = f"share of calls over the objective, Clopper-Pearson, design effect {tail.pass_effect:.3g}"
    return GateResult(GATE, verdict, p.value, p.low, p.high, objective, tail.calls, method, hint, summary, details)


def _calls_hint(tail: TailShare, alpha: float, q: float) -> str:
    distance = abs((1 - q) - tail.share)
    inner = tail.high if tail.share < 1 - q else tail.low
    needed = max(int(np.ceil(np.log(alpha) / np.log(q) * tail.pass_effect)), FEWEST_CALLS)
    if tail.over:
        from pytest_mlgates.stats import rows_to_settle

        more = rows_to_settle(tail.calls, abs(inner - tail.share), distance)
        if more is None:
            return "the share of slow calls lies at the limit: no realistic number of calls would settle it"
        needed = max(needed, more)
    return f"about {needed:,} calls would settle it, if the estimate is the truth; raise calls or the budget"


def measure_latency(
    predict_one: Callable[[int], Any],
    *,
    p99_max: float = 0.2,
    calls: int = 1_000,
    max_calls: int = LOOKS[-1],
    budget_s: float = 120.0,
    warm_up: int = 20,
    confidence: float = 0.95,
    threads: int | None = 1,
    clock: Callable[[], float] = time.perf_counter,
    cpu_wait: Callable[[], float] | None = None,
) -> GateResult:
    """Time single-row predictions until the p99 objective is settled or the budget is spent.

    Parameters
    ----------
    predict_one
        Called with the number of the call; predicts one row, as a client would send it (pick row ``i % len(rows)``).
    p99_max
        Objective in seconds.
    calls
        Calls before the first look; further looks at twice, four, eight and sixteen times that.
    max_calls, budget_s
        When to stop: calls, and seconds of wall time. What is then open is INCONCLUSIVE.
    warm_up
        Calls before the clock starts; an error in the first of them means that the model does not answer at all.
    confidence
        Over all looks together.
    threads
        Native threads allowed to the model while it is timed (needs threadpoolctl); ``None`` leaves them alone.
    clock
        Monotonic seconds.
    cpu_wait
        Seconds that this thread has waited, ready to run, for a CPU that others held; by default the kernel's count where it keeps
        one (Linux), else none. It is left out of each call's time, and recorded: what other processes take is not the model's latency.
        Sleeping and waiting for input or output stay in.

    Returns
    -------
    GateResult
        As `latency`; ``details["conditions"]`` records warm-up, garbage collector, threads, machine load and looks.

    Raises
    ------
    ModelUnusable
        The first warm-up call fails.
    """
    if calls < 1:
        raise ConfigError(f"calls is {calls!r}, expected at least 1")
    objective = limit("p99_max", p99_max)
    looks = planned_looks(calls, max_calls)
    times, failed = np.empty(looks[-1]), np.zeros(looks[-1], dtype=np.bool_)
    conditions: dict[str, Any] = {"warm_up_calls": warm_up, "gc": "off while timed, run between looks", "planned_looks": looks}
    conditions["load_before"] = _machine_load()
    result: GateResult | None = None
    with _threads(threads, conditions), _run_queue_wait() as counted:
        waited = cpu_wait or counted
        timer = _Timer(clock, waited or (lambda: 0.0))
        _warm_up(predict_one, warm_up)
        start, done = clock(), 0
        for look, upto in enumerate(looks, 1):
            done = _time_calls(predict_one, times, failed, done, upto, start + budget_s, timer)
            conditions |= {"looks_taken": look, "load_after": _machine_load(), "wall_s": clock() - start}
            conditions["cpu_wait_s"] = timer.left_out_s if waited is not None else None
            conditions["budget_spent"] = done < upto
            result = latency(
                times[:done],
                p99_max=objective,
                errors=failed[:done],
                looks=len(looks),
                confidence=confidence,
                conditions=conditions,
            )
            if result.verdict is not Verdict.INCONCLUSIVE or done < upto:
                break
    if result is None or done == 0:
        raise NotEnough("no call was timed within the budget")
    return result


class _Timer:
    """Seconds of one call, less those that its thread waited for a CPU."""

    def __init__(self, clock: Callable[[], float], cpu_wait: Callable[[], float]) -> None:
        self._clock, self._cpu_wait = clock, cpu_wait
        self._began = self._waited = self.now = self.left_out_s = 0.0

    def start(self) -> None:
        """Begin a call."""
        self._waited = self._cpu_wait()
        self._began = self._clock()

    def stop(self) -> float:
        """End it; return its seconds."""
        self.now = self._clock()
        took = self.now - self._began
        waited = min(max(self._cpu_wait() - self._waited, 0.0), took)
        self.left_out_s += waited
        return took - waited


@contextlib.contextmanager
def _run_queue_wait() -> Iterator[Callable[[], float] | None]:
    """Yield a reader of this thread's run-queue wait in seconds, ``None`` where the kernel keeps no count.

    The second field of ``/proc/thread-self/schedstat`` (Linux, CONFIG_SCHED_INFO), in nanoseconds.
    """
    try:
        file = Path("/proc/thread-self/schedstat").open("rb", buffering=0)  # noqa: SIM115 closed below
    except OSError:
        yield None
        return

    def waited_s() -> float:
        file.seek(0)
        return int(file.read().split()[1]) * 1e-9

    with file:
        try:
            waited_s()
        except (OSError, ValueError, IndexError):
            yield None
        else:
            yield waited_s


def _time_calls(
    predict_one: Callable[[int], Any],
    times: arrays.Floats,
    failed: arrays.Bools,
    done: int,
    upto: int,
    deadline: float,
    timer: _Timer,
) -> int:
    """Time calls ``done`` to ``upto`` in place; return the number reached before the deadline (at least one)."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        for i in range(done, upto):
            timer.start()
            try:
                predict_one(i)
            except Exception:  # noqa: BLE001 a model under test may raise anything; the call counts as failed
                failed[i] = True
            times[i] = timer.stop()
            if timer.now > deadline:
                return i + 1
        return upto
    finally:
        if was_on:
            gc.enable()


def _warm_up(predict_one: Callable[[int], Any], calls: int) -> None:
    for i in range(max(calls, 1)):
        try:
            predict_one(i)
        except Exception as error:
            if i == 0:
                raise ModelUnusable(f"the model did not answer a single row: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _threads(count: int | None, conditions: dict[str, Any]) -> Iterator[None]:
    """Limit native thread pools where threadpoolctl is installed (scikit-learn brings it), and record the setting."""
    conditions["threads"] = {
        name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ
    }
    try:
        import threadpoolctl
    except ImportError:
        count = None
    if count is None:
        conditions["threads"]["limit"] = None
        yield
        return
    conditions["threads"]["limit"] = count
    with threadpoolctl.threadpool_limits(limits=count):
        yield


def _machine_load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
