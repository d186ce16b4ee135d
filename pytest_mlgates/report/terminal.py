"""Verdicts on a terminal: the word of one gate, the closing table, the one thing to do next."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mlgates.report.text import printable
from pytest_mlgates.results import GateResult, RunReport, Verdict

_WORDS = {
    Verdict.PASS: "PASSED",
    Verdict.FAIL: "FAILED",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE",
    Verdict.SKIP: "SKIPPED",
    Verdict.ERROR: "ERROR",
}


def gate_line(result: GateResult) -> str:
    """One gate in one line: verdict, numbers, and what to do where it did not pass."""
    text = result.summary or result.method
    if result.hint and result.verdict is not Verdict.PASS and result.hint not in text:
        text = f"{text}; {result.hint}" if text else result.hint
    return printable(f"{_WORDS[result.verdict]:<7} {text}".rstrip())


def number(value: float | None) -> str:
    """A number in at most eight characters, an en dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10000 or size < 0.001:
        return f"{value:.2g}"
    return f"{value:.4g}" if size < 1000 else f"{value:,.0f}"


def table(results: Sequence[GateResult]) -> list[str]:
    """The closing table: gate, estimate, bounds, limit, n, verdict; fits 80 columns."""
    rows = [("gate", "estimate", "bounds", "limit", "n", "verdict")]
    for r in results:
        interval = f"{number(r.low)}…{number(r.high)}" if r.low is not None and r.high is not None else "–"
        rows.append(
            (
                printable(r.gate)[:14],
                number(r.estimate),
                interval,
                number(r.threshold),
                f"{r.n:,}" if r.n else "–",
                r.verdict.upper(),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3, 4)), row[5]]
        lines.append("  ".join(cells).rstrip())
    return lines


def conclusion(report: RunReport) -> str:
    """What the whole run says of one version, and the one thing to do next."""
    return printable(_conclusion(report))


def _conclusion(report: RunReport) -> str:
    name = f"{report.model} v{report.version}"
    if report.missing:
        return f"{name}: INCOMPLETE, {', '.join(report.missing)} did not report; run the whole suite before promoting"
    verdict = report.verdict
    if verdict is Verdict.PASS:
        return f"{name}: PASS"
    blocking = [r for r in report.results if r.verdict.blocks]
    if not blocking:
        return f"{name}: INCONCLUSIVE, nothing was judged"
    first = min(blocking, key=lambda r: list(Verdict).index(r.verdict) if r.verdict is not Verdict.FAIL else -1)
    others = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
    advice = f": {first.hint}" if first.hint else ""
    return f"{name}: {verdict.upper()} by {first.gate}{others}{advice}"
