"""Latency samples of a load test to percentiles with intervals and a verdict; pure.

Two questions are kept apart. *Is the measurement worth judging?* (``valid``): a generator that ran out of CPU, sent late or did not
reach its rate has measured itself. *Does the endpoint hold its objective?*: at most 1 % of the calls may be over it, and errors
count as over it whatever they took. The share is bounded (`stats.tail.tail_share`); a p99 estimated from 1,000 calls alone
would pass an endpoint at 1.25 % one time in five.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.results import Estimate, GateResult, Verdict, finite_or_none
from pytest_mlgates.stats.proportions import quantile_interval
from pytest_mlgates.stats.tail import TailShare, tail_share

GATE = "endpoint_load"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
ALLOWED_SHARE = 0.01
MAX_LAG_SHARE = 0.10
"""Send lag (p99) above this share of the objective: the generator was late, and the latencies are its own."""
MIN_RATE_SHARE = 0.95
"""Share of the asked rate below which an open loop was not what was asked for."""
MAX_CPU_SHARE = 0.70
"""CPU of one generator process, as a share of one core, above which it may have been the bottleneck."""
_BINS_OVER_TIME = 60


@dataclasses.dataclass(frozen=True)
class Samples:
    """Counted calls, in order of their (intended) start.

    Attributes
    ----------
    start_s : ndarray, shape (n,)
        Intended start, seconds from the first.
    latency_s : ndarray, shape (n,)
        From the intended start to the last byte of the answer; in a closed loop the intended start is the send.
    service_s : ndarray, shape (n,)
        From the send itself: what a tool that forgets the waiting would report.
    lag_s : ndarray, shape (n,)
        Time by which the request was handed to the network later than intended, through the generator's own fault.
    kinds
        ``""`` for a right answer, else the kind of error: ``status_500``, ``not_json``, ``not_finite``, ...
    """

    start_s: Any
    latency_s: Any
    service_s: Any
    lag_s: Any
    kinds: Sequence[str]

    @property
    def n(self) -> int:
        """Number of calls."""
        return len(self.kinds)


@dataclasses.dataclass(frozen=True, slots=True)
class Generator:
    """What the generator saw of itself: the busiest process's CPU share of a core, CPU per request, process count."""

    cpu_share: float
    cpu_ms_per_request: float
    processes: int = 1


@dataclasses.dataclass(frozen=True)
class LoadSummary:
    """What a load test found; ``to_dict`` is the stable JSON."""

    n: int
    errors: int
    error_kinds: Mapping[str, int]
    quantiles: Mapping[str, Estimate]
    service: Mapping[str, float]
    tail: TailShare
    objective_ms: float
    rate_per_s: float
    asked_rate_per_s: float | None
    duration_s: float
    concurrency: int
    lag_p99_ms: float
    generator: Generator
    problems: tuple[str, ...]
    verdict: Verdict
    reason: str
    over_time: Sequence[Mapping[str, float | int | None]] = ()
    model: str = ""
    version: str = ""
    rows: str = ""

    @property
    def valid(self) -> bool:
        """Whether the generator was not the bottleneck."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The documented keys first, then everything else; plain JSON values."""
        out: dict[str, Any] = {"n": self.n, "errors": self.errors}
        out |= {f"{name}_ms": finite_or_none(estimate.value) for name, estimate in self.quantiles.items()}
        for name, estimate in self.quantiles.items():
            out |= {f"{name}_low_ms": finite_or_none(estimate.low), f"{name}_high_ms": finite_or_none(estimate.high)}
        out |= {"rate_per_s": self.rate_per_s, "valid": self.valid, "verdict": self.verdict.value, "reason": self.reason}
        out |= {"objective_ms": self.objective_ms, "error_kinds": dict(self.error_kinds), "problems": list(self.problems)}
        out |= {"share_over": self.tail.share, "share_over_low": self.tail.low, "share_over_high": self.tail.high}
        out |= {"design_effect": self.tail.pass_effect, "runs_of_slow_calls": self.tail.runs}
        out |= {"mode": "closed" if self.asked_rate_per_s is None else "open", "concurrency": self.concurrency}
        out |= {"asked_rate_per_s": self.asked_rate_per_s, "duration_s": self.duration_s, "lag_p99_ms": self.lag_p99_ms}
        out |= {"service_ms": dict(self.service), "generator": dataclasses.asdict(self.generator)}
        out |= {"over_time": list(self.over_time), "model": self.model, "version": self.version, "rows": self.rows}
        return out


def judge(
    samples: Samples,
    *,
    objective_ms: float = 200.0,
    concurrency: int = 1,
    asked_rate_per_s: float | None = None,
    generator: Generator | None = None,
    max_errors: int = 0,
    alpha: float = 0.01,
    confidence: float = 0.95,
    model: str = "",
    version: str = "",
    rows: str = "",
) -> LoadSummary:
    """Judge counted calls against a latency objective.

    Parameters
    ----------
    samples
        See `Samples`.
    objective_ms
        At most 1 % of the calls may take longer (the tutorial's p99 < 200 ms).
    concurrency
        Calls in flight at once: the least design effect once slow calls come in runs.
    asked_rate_per_s
        Rate that an open loop was asked for; ``None`` for a closed loop.
    generator
        What the generator saw of itself; ``None`` leaves its CPU unjudged.
    max_errors
        Errors that are tolerated; more fail the test whatever the latencies.
    alpha
        One-sided error of each bound at this look.
    confidence
        Of the percentiles' two-sided intervals.
    model, version, rows
        What was under test and what it was sent; kept with the result.

    Raises
    ------
    DataUnusable
        There is no call to judge.
    """
    if samples.n == 0:
        raise DataUnusable("the load test counted no call; give it at least one (--n)")
    failed = np.array([bool(k) for k in samples.kinds])
    latency = np.asarray(samples.latency_s, dtype=float)
    tail = tail_share(latency, objective_ms / 1e3, failed=failed, alpha=alpha)
    if tail.over > tail.runs:  # slow calls come in runs: one stall hits everything that is in flight
        tail = tail_share(latency, objective_ms / 1e3, failed=failed, alpha=alpha, concurrency=max(concurrency, 1))
    ends = np.asarray(samples.start_s) + latency
    duration = float(ends.max() - np.asarray(samples.start_s).min()) or 1e-9
    # an open loop's rate is that of its sends; a closed loop's, of its answers
    sends = np.asarray(samples.start_s) + np.asarray(samples.lag_s)
    spread = float(sends.max() - sends.min())
    rate = (samples.n - 1) / spread if asked_rate_per_s is not None and samples.n > 1 and spread > 0 else samples.n / duration
    lag_p99_ms = float(np.quantile(samples.lag_s, 0.99)) * 1e3
    problems = _problems(lag_p99_ms, rate, objective_ms, asked_rate_per_s, generator)
    errors = Counter(k for k in samples.kinds if k)
    verdict, reason = _verdict(tail, sum(errors.values()), max_errors, problems)
    service = np.asarray(samples.service_s, dtype=float) * 1e3
    return LoadSummary(
        n=samples.n,
        errors=sum(errors.values()),
        error_kinds=dict(sorted(errors.items())),
        quantiles={name: quantile_interval(latency * 1e3, q, confidence) for name, q in QUANTILES.items()},
        service={name: float(np.quantile(service, q)) for name, q in QUANTILES.items()},
        tail=tail,
        objective_ms=objective_ms,
        rate_per_s=float(rate),
        asked_rate_per_s=asked_rate_per_s,
        duration_s=duration,
        concurrency=concurrency,
        lag_p99_ms=lag_p99_ms,
        generator=generator or Generator(0.0, 0.0),
        problems=problems,
        verdict=verdict,
        reason=reason,
        over_time=_over_time(np.asarray(samples.start_s), latency, failed),
        model=model,
        version=version,
        rows=rows,
    )


def _problems(
    lag_p99_ms: float, rate: float, objective_ms: float, asked: float | None, generator: Generator | None
) -> tuple[str, ...]:
    found = []
    if lag_p99_ms > MAX_LAG_SHARE * objective_ms:
        found.append(f"the generator sent late: lag p99 {lag_p99_ms:.1f} ms > {MAX_LAG_SHARE:.0%} of the objective")
    if asked is not None and rate < MIN_RATE_SHARE * asked:
        found.append(f"the generator reached {rate:.1f}/s of {asked:g}/s")
    if generator is not None and generator.cpu_share > MAX_CPU_SHARE:
        found.append(
            f"the generator used {generator.cpu_share:.0%} of a core (> {MAX_CPU_SHARE:.0%}); use more --processes or less load"
        )
    return tuple(found)


def _verdict(tail: TailShare, errors: int, max_errors: int, problems: tuple[str, ...]) -> tuple[Verdict, str]:
    if errors > max_errors:  # no fault of the generator's CPU makes a wrong answer right
        return Verdict.FAIL, f"{errors} of {tail.calls} calls were errors (at most {max_errors})"
    if problems:
        return Verdict.INCONCLUSIVE, "invalid measurement: " + "; ".join(problems)
    bounds = f"{tail.share:.2%} over the objective ({tail.low:.2%} to {tail.high:.2%}), allowed {ALLOWED_SHARE:.0%}"
    if tail.high <= ALLOWED_SHARE:
        return Verdict.PASS, bounds
    if tail.low > ALLOWED_SHARE:
        return Verdict.FAIL, bounds
    return Verdict.INCONCLUSIVE, f"{bounds}; make more calls (design effect {tail.pass_effect:.1f})"


def _over_time(start: Any, latency: Any, failed: Any) -> list[dict[str, float | int | None]]:
    """At most 60 equal slices of time: calls, errors, median and worst latency (ms)."""
    span = float(start.max() - start.min()) or 1.0
    slot = np.minimum(((start - start.min()) / span * _BINS_OVER_TIME).astype(int), _BINS_OVER_TIME - 1)
    out: list[dict[str, float | int | None]] = []
    for i in range(_BINS_OVER_TIME):
        here = slot == i
        count = int(here.sum())
        out.append(
            {
                "t_s": i * span / _BINS_OVER_TIME,
                "calls": count,
                "errors": int(failed[here].sum()),
                "p50_ms": float(np.median(latency[here])) * 1e3 if count else None,
                "max_ms": float(latency[here].max()) * 1e3 if count else None,
            }
        )
    return out


def to_gate_result(summary: LoadSummary) -> GateResult:
    """Return the summary as the gate ``endpoint_load``: the share over the objective against 1 %."""
    p99 = summary.quantiles["p99"]
    high = f"{p99.high:.1f}" if math.isfinite(p99.high) else "∞"
    line = (
        f"p50 {summary.quantiles['p50'].value:.1f} ms, p99 {p99.value:.1f} ms (95% CI {p99.low:.1f}–{high}) "
        f"against {summary.objective_ms:g} ms; errors {summary.errors}; n={summary.n:,}; {summary.rate_per_s:.0f}/s"
    )
    hint = "" if summary.verdict is Verdict.PASS else summary.reason
    return GateResult(
        GATE,
        summary.verdict,
        summary.tail.share,
        summary.tail.low,
        summary.tail.high,
        ALLOWED_SHARE,
        summary.n,
        "share of calls over the objective, Clopper-Pearson, one-sided 99 %",
        hint,
        line,
        summary.to_dict(),
        summary.model,
        summary.version,
    )


_BARS = "▁▂▃▄▅▆▇█"


def chart(summary: LoadSummary) -> str:
    """Return the worst latency of each slice of time as a line of bars, logarithmic between the best and the worst slice."""
    worst = [s["max_ms"] for s in summary.over_time]
    seen = [w for w in worst if w]
    if not seen:
        return ""
    low, high = math.log(min(seen)), math.log(max(seen))
    bars = ["·" if not w else _BARS[round((math.log(w) - low) / (high - low) * 7) if high > low else 0] for w in worst]
    return f"  worst over time: {''.join(bars)}  {min(seen):.1f} to {max(seen):.1f} ms"


def table(summary: LoadSummary) -> str:
    """Return the tutorial's table, with intervals, and what to make of it."""
    lines = []
    for name, estimate in summary.quantiles.items():
        high = f"{estimate.high:.1f}" if math.isfinite(estimate.high) else "∞"
        low = f"{estimate.low:.1f}" if math.isfinite(estimate.low) else "0"
        label = name.replace("_", ".") + ":"
        lines.append(f"  {label:<7}{estimate.value:8.1f} ms   ({low} to {high})")
    kinds = ", ".join(f"{kind} {count}" for kind, count in summary.error_kinds.items())
    lines.append(f"  errors: {summary.errors}" + (f"   ({kinds})" if kinds else ""))
    asked = f" of {summary.asked_rate_per_s:g}/s asked, open loop" if summary.asked_rate_per_s is not None else ", closed loop"
    lines.append(f"  rate:   {summary.rate_per_s:.1f}/s{asked}; {summary.n} calls in {summary.duration_s:.1f} s")
    lines.append(
        f"  generator: {summary.generator.cpu_ms_per_request:.2f} ms CPU a request, {summary.generator.cpu_share:.0%} of a core, "
        f"lag p99 {summary.lag_p99_ms:.1f} ms" + ("" if summary.valid else "  ← INVALID")
    )
    if summary.rows:
        lines.append(f"  rows:   {summary.rows}")
    lines.append(chart(summary))
    lines.append(f"  {summary.verdict.value.upper()} against p99 < {summary.objective_ms:g} ms: {summary.reason}")
    return "\n".join(lines)
