"""Verdicts on a terminal: the word of one gate, the closing table, the one thing to do next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pytest_mlgates.report.text import number, printable
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


def table(results: Sequence[GateResult]) -> list[str]:
    """The closing table: gate, estimate, bounds, limit, n, verdict; fits 80 columns."""
    rows = [("gate", "estimate", "bounds", "limit", "n", "verdict")]
    rows += [
        (
            printable(r.gate)[:15],
            number(r.estimate),
            bounds(r),
            number(r.threshold),
            f"{r.n:,}" if r.n else "–",
            r.verdict.upper(),
        )
        for r in results
    ]
    return columns(rows, left=(0, 5))


def columns(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """Cells as aligned lines: the columns of ``left`` to the left, all others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def bounds(result: GateResult) -> str:
    """Both bounds of a result, or the only one; an en dash without any."""
    if result.low is None and result.high is None:
        return "–"
    if result.high is None:
        return f"≥ {number(result.low)}"
    return f"≤ {number(result.high)}" if result.low is None else f"{number(result.low)}…{number(result.high)}"


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
