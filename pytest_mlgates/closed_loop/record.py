"""What a run of the loop leaves in ``mlgates-loop/RUN``: ``loop.log`` for people, ``loop.json`` for programs."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from pytest_mlgates.report.text import in_markdown

STEPS = (
    "drift is injected",
    "the alert fires",
    "the receiver gets it",
    "the retrain pipeline runs",
    "a new version is registered",
    "the audit names the reason",
    "Teams gets the summary",
    "drift on the fresh challenger is low",
)
_MARKS = {"passed": "✅", "failed": "❌", "skipped": "➖"}


class Record:
    """The record of one run, written anew after each step, so that a run that is killed leaves what it had."""

    def __init__(self, folder: Path, *, run: str, model: str, kind: str, fault: str, live: bool) -> None:
        self.folder = folder
        self._head: dict[str, Any] = {
            "run": run, "model": model, "kind": kind, "fault": fault, "live": live, "started": _now(), "ended": None,
            "closed": False, "alert_id": "", "version": "",
        }  # fmt: skip
        self._steps: list[dict[str, Any]] = []

    def step(self, number: int, outcome: str, detail: str, seconds: float, **found: str) -> None:
        """Note how a step ended: ``passed``, ``failed`` or ``skipped``. ``found``: alert id and version, once known."""
        title = STEPS[number - 1]
        self._steps.append({"step": number, "title": title, "outcome": outcome, "detail": detail, "seconds": round(seconds, 2)})
        self._head |= found
        passed = [s["step"] for s in self._steps if s["outcome"] == "passed"]
        self._head |= {"ended": _now(), "closed": passed == list(range(1, len(STEPS) + 1))}
        document = {**self._head, "steps": self._steps}
        scratch = self.folder / "loop.json.part"
        scratch.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
        scratch.replace(self.folder / "loop.json")
        if outcome != "skipped":
            text = detail if outcome == "passed" else f"FAILED {detail}"
            with (self.folder / "loop.log").open("a", encoding="utf-8") as file:
                file.write(f"{dt.datetime.now(dt.UTC):%H:%M:%S} step {number} ({seconds:.1f} s): {text}\n")

    def write_job_summary(self) -> None:
        """Append the steps to the job summary where GitHub Actions names a file for it."""
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path or not self._steps:
            return
        verdict = "closed" if self._head["closed"] else "broken"
        lines = [
            f"### {in_markdown(self._head['model'])}: the loop is {verdict}", "", "| step | | seconds | |", "|-|-|-|-|",
            *(
                f"| {s['step']} | {_MARKS[s['outcome']]} {in_markdown(s['title'])} | {s['seconds']:.1f} | {in_markdown(s['detail'])} |"
                for s in self._steps
            ),
            "",
        ]  # fmt: skip
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
