"""Evidence to the parts of its page: verdict, overview, gates, provenance. Knows no registry and no pytest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_mlgates.config import GATES
from pytest_mlgates.evidence import Evidence, canonical_bytes
from pytest_mlgates.report import figures, svg
from pytest_mlgates.report.page import Fact, Section, Source, Table, drawn
from pytest_mlgates.report.terminal import conclusion, next_step

_QUESTIONS = {
    "performance": "As good as the baseline, on the same rows?",
    "holdout": "Does it answer what it answered when it was made, and has it not seen the holdout?",
    "fairness": "Are groups selected alike?",
    "latency": "One row at a time, in time?",
    "calibration": "Do predictions mean what they say?",
    "weak_slices": "Is the error alike everywhere?",
    "slices": "Do the declared segments hold?",
    "proving": "Do the thresholds have teeth?",
}
_MEANS = {
    "pass": "fit for promotion",
    "fail": "blocked",
    "error": "blocked: not all of it could be judged",
    "inconclusive": "blocked until it is settled",
}


def evidence_pages(documents: Sequence[Evidence]) -> dict[str, Any]:
    """Return the values of the template ``evidence.html`` for one document or several."""
    several = len(documents) > 1
    parts = [_document(document, f"d{i}" if several else "d") for i, document in enumerate(documents)]
    first = documents[0].report()
    title = "Model release gates" if several else f"{first.model} v{first.version}: {first.verdict.value}"
    return {"title": title, "documents": parts, "question": lambda gate: _QUESTIONS.get(gate, "")}


def _document(evidence: Evidence, key: str) -> dict[str, Any]:
    body = json.loads(canonical_bytes(evidence.body))  # in one order, whatever way the document came
    source = Source(body)
    report = evidence.report()
    results = body["results"]
    order = sorted(range(len(results)), key=lambda i: (_rank(str(results[i]["gate"])), i))
    sections = [_gate(source, i, results[i], f"{key}-{i}") for i in order]
    return {
        "key": key,
        "model": source.text("model", "name"),
        "version": source.text("model", "version"),
        "verdict": report.verdict.value,
        "means": _MEANS[report.verdict.value],
        "conclusion": conclusion(report),
        "next": next_step(report),
        "facts": _facts(evidence, source, body),
        "overview": [_overview_row(source, i, results[i], f"{key}-{i}") for i in order],
        "sections": [s for s in sections if s.blocks or s.title in GATES or s.verdict not in ("pass", "skip")],
        "plain": [s for s in sections if not (s.blocks or s.title in GATES or s.verdict not in ("pass", "skip"))],
        "provenance": _provenance(evidence, source, body),
        "seal": evidence.seal,
    }


def _rank(gate: str) -> int:
    """The five gates first, in their order, then the others as they came."""
    return GATES.index(gate) if gate in GATES else len(GATES)


def _facts(evidence: Evidence, source: Source, body: Mapping[str, Any]) -> list[Fact]:
    found = [
        Fact("judged", source.time("created")),
        Fact("holdout", source.text("holdout", "table")),
        Fact("rows", source.num("holdout", "rows", kind="count")),
    ]
    if (body.get("baseline") or {}).get("model"):
        found.append(Fact("baseline", source.text("baseline", "model")))
    if body.get("kill_score") is not None:
        found.append(Fact("kill score", source.num("kill_score")))
    return [*found, Fact("evidence", evidence.id)]


def _overview_row(source: Source, index: int, result: Mapping[str, Any], key: str) -> dict[str, Any]:
    unit = "ms" if result["gate"] == "latency" else ""
    interval = svg.Interval("", result["estimate"], result["low"], result["high"], figures.TONES[result["verdict"]])
    numbers = {
        name: source.num("results", index, name, kind=unit) if result[name] is not None else ""
        for name in ("estimate", "low", "high", "threshold")
    }
    return {
        "key": key,
        "gate": source.text("results", index, "gate"),
        "verdict": result["verdict"],
        **numbers,
        "gauge": drawn(svg.gauge(interval, result["threshold"])),
        "n": source.num("results", index, "n", kind="count") if result["n"] else "–",
    }


def _gate(source: Source, index: int, result: Mapping[str, Any], key: str) -> Section:
    at = Source(result, f"/results/{index}")
    lead = [at.text("summary")] if result["summary"] else []
    if result["hint"] and result["hint"] not in result["summary"] and result["verdict"] != "pass":
        lead.append(at.text("hint"))
    return Section(
        key,
        str(result["gate"]),
        str(result["verdict"]),
        lead,
        figures.blocks(at, result, key),
        str(result["method"]),
    )


def _provenance(evidence: Evidence, source: Source, body: Mapping[str, Any]) -> list[Table]:
    tables = []
    for part in ("model", "holdout", "baseline", "git", "environment"):
        found = body.get(part)
        if isinstance(found, Mapping) and found:
            tables.append(Table.of(part, ["", ""], list(_leaves(source, found, part)), (0, 1)))
    others = [
        [k.replace("_", " "), source.text(k)]
        for k in ("settings_digest", "created", "tool_version", "looks", "kill_score")
        if body.get(k) is not None
    ]
    others += [
        ["seal", evidence.seal],
        ["signature", "none" if evidence.signature is None else str(evidence.signature.get("public_key"))],
    ]
    required = ", ".join(map(str, body["required"]))
    tables.append(Table.of("the document", ["", ""], [*others, ["required", required]], (0, 1)))
    return tables


def _leaves(source: Source, found: Mapping[str, Any], *path: str) -> Iterator[list[Any]]:
    """Name and text of every value below a path; a mapping's own values one by one."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _leaves(source, value, *path, key)
        else:
            yield [" / ".join((*path[1:], key)), source.text(*path, key)]
