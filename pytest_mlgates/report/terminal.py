"""Verdicts on a terminal: the word of one gate, the closing table, the one thing to do next."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Collection, Sequence

from pytest_mlgates.report.text import clipped, number, printable
from pytest_mlgates.results import GateResult, RunReport, Verdict

_WORST_FIRST = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE)
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


_WIDTH = 80


def table(results: Sequence[GateResult]) -> list[str]:
    """The closing table: gate, estimate, interval, threshold, n, verdict; fits 80 columns, for which a long name gives way."""
    cells = [
        (number(r.estimate), bounds(r), number(r.threshold), f"{r.n:,}" if r.n else "–", r.verdict.upper()) for r in results
    ]
    lines = columns([("estimate", "interval", "threshold", "n", "verdict"), *cells], left=(4,))
    room = _WIDTH - 2 - max(map(len, lines))
    names = ["gate", *(clipped(r.gate, min(room, _LONGEST_NAME)) for r in results)]
    width = max(map(len, names))
    return [f"{name.ljust(width)}  {line}" for name, line in zip(names, lines, strict=True)]


_LONGEST_NAME = 20


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
    """What the whole run says of one version: its verdict, and the gates that it rests on."""
    return printable(f"{report.model} v{report.version}: {_conclusion(report)}")


def _conclusion(report: RunReport) -> str:
    blocking = _blocking(report)
    if report.missing:
        return f"INCOMPLETE, {', '.join(report.missing)} did not report" + (f"; {blocking}" if blocking else "")
    if report.verdict is Verdict.PASS:
        return "PASS"
    return blocking or "INCONCLUSIVE, nothing was judged"


def _blocking(report: RunReport) -> str:
    """The gates that block by their verdict, failures first: ``FAIL by latency; INCONCLUSIVE by holdout``."""
    found = {v: [r.gate for r in report.results if r.verdict is v] for v in _WORST_FIRST}
    return "; ".join(f"{v.upper()} by {', '.join(gates)}" for v, gates in found.items() if gates)


def next_step(report: RunReport, *, stage: str = "", stored: bool = True) -> str:
    """The one thing to do next about a version.

    Parameters
    ----------
    stage
        The stage that the version is in; empty where that is not known.
    stored
        Whether evidence was stored with the version: without it there is nothing to promote on.
    """
    return printable(_next_step(report, stage, stored=stored))


_NEXT_STAGE = {"": "STAGE", "None": "Staging", "Archived": "Staging", "Staging": "Production"}


def _next_step(report: RunReport, stage: str, *, stored: bool) -> str:
    if report.verdict is Verdict.PASS:
        if not stored:
            return "run once more without --mlgates-no-evidence: promotion needs the evidence"
        to = _NEXT_STAGE.get(stage)
        return (
            f'mlgates promote {shlex.quote(report.model)} {report.version} --to {to} --reason "…"'
            if to
            else "nothing: it serves"
        )
    first = next((r for v in _WORST_FIRST for r in report.results if r.verdict is v), None)
    if first is not None:
        return f"{first.gate}: {first.hint or first.summary or first.method}"
    return "run the whole suite before promoting" if report.missing else "give a gate something to judge: mlgates settings show"


_COLOURS = {
    Verdict.PASS: {"green": True},
    Verdict.FAIL: {"red": True},
    Verdict.ERROR: {"red": True},
    Verdict.INCONCLUSIVE: {"yellow": True},
    Verdict.SKIP: {},
}

Styled = tuple[str, dict[str, bool]]
"""A line, and how pytest colours it where its output is a terminal."""


def styled_table(results: Sequence[GateResult]) -> list[Styled]:
    """Return `table` with the colour of each row's verdict."""
    head, *rows = table(results)
    return [(head, {"bold": True}), *((row, _COLOURS[r.verdict]) for row, r in zip(rows, results, strict=True))]


def closing(report: RunReport) -> Styled:
    """Return `conclusion` with the colour of the verdict."""
    return conclusion(report), {"bold": True, **_COLOURS[report.verdict]}


def wrapped(line: str, width: int) -> list[str]:
    """Break a line at spaces so that it holds ``width`` columns; a command is broken so that it can still be copied whole."""
    command = line.startswith("next: mlgates ")
    some = textwrap.wrap(
        line,
        width - 2 * command,
        subsequent_indent="      " if command else "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [part + " \\" for part in some[:-1]] + some[-1:] if command else some
