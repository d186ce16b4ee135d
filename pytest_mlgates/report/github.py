"""The job summary of a GitHub Actions run, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mlgates.report.terminal import bounds, conclusion, next_step
from pytest_mlgates.report.text import in_markdown, number
from pytest_mlgates.results import RunReport, Verdict

_MARKS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔", Verdict.SKIP: "➖", Verdict.ERROR: "💥"}


def job_summary(reports: Sequence[RunReport]) -> str:
    """A heading, a table and the next step per model version."""
    lines: list[str] = []
    for report in reports:
        lines += [
            f"### {in_markdown(conclusion(report))}",
            "",
            "| gate | estimate | interval | threshold | n | verdict | |",
            "|-|-|-|-|-|-|-|",
        ]
        for r in report.results:
            cells = [r.gate, number(r.estimate), bounds(r), number(r.threshold), f"{r.n:,}"]
            cells += [f"{_MARKS[r.verdict]} {r.verdict.value}", r.hint or r.summary]
            lines.append("| " + " | ".join(in_markdown(c) for c in cells) + " |")
        lines += ["", f"Next: {in_markdown(next_step(report))}", ""]
    return "\n".join(lines) + "\n"
