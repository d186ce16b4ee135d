"""Evidence to the parts of its page: what each gate found, as pictures, words and tables. Knows no registry and no pytest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_mlgates.config import GATES
from pytest_mlgates.evidence import Evidence, canonical_bytes
from pytest_mlgates.report import svg
from pytest_mlgates.report.page import MOST_ROWS, Block, Section, Source, Table, drawn, shown
from pytest_mlgates.report.terminal import conclusion

TONES = {"pass": "good", "fail": "bad", "error": "bad", "inconclusive": "open", "skip": "muted"}
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
_DRAWN_GROUPS = 16


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
        "conclusion": conclusion(report),
        "facts": [
            ("judged", source.text("created")),
            ("holdout", source.text("holdout", "table")),
            ("rows", source.num("holdout", "rows", kind="count")),
            ("evidence", evidence.id),
        ],
        "overview": [_overview_row(source, i, results[i], f"{key}-{i}") for i in order],
        "sections": [s for s in sections if s.blocks or s.title in GATES or s.verdict not in ("pass", "skip")],
        "plain": [s for s in sections if not (s.blocks or s.title in GATES or s.verdict not in ("pass", "skip"))],
        "provenance": _provenance(evidence, source, body),
        "seal": evidence.seal,
    }


def _rank(gate: str) -> int:
    """The five gates first, in their order, then the others as they came."""
    return GATES.index(gate) if gate in GATES else len(GATES)


def _overview_row(source: Source, index: int, result: Mapping[str, Any], key: str) -> dict[str, Any]:
    unit = "ms" if result["gate"] == "latency" else ""
    return {
        "key": key,
        "gate": source.text("results", index, "gate"),
        "verdict": result["verdict"],
        "numbers": [source.num("results", index, name, kind=unit) for name in ("estimate", "low", "high", "threshold")],
        "n": source.num("results", index, "n", kind="count") if result["n"] else "–",
    }


def _gate(source: Source, index: int, result: Mapping[str, Any], key: str) -> Section:
    at = Source(result, f"/results/{index}")
    blocks: list[Block] = []
    make = _BLOCKS.get(str(result["gate"]))
    if make is not None and isinstance(result.get("details"), dict):
        blocks = list(make(at, result, key))
    lead = [at.text("summary")] if result["summary"] else []
    if result["hint"] and result["hint"] not in result["summary"] and result["verdict"] != "pass":
        lead.append(at.text("hint"))
    return Section(
        key,
        str(result["gate"]),
        str(result["verdict"]),
        lead,
        blocks,
        str(result["method"]),
    )


def _performance(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    details = result["details"]
    metric, own, base = str(details.get("metric", "metric")), details.get("interval"), details.get("baseline")
    tone = TONES[result["verdict"]]
    if own:
        rows = [svg.Interval("this version", result["estimate"], own["low"], own["high"], tone)]
        head = ["", "estimate", "low", "high"]
        numbers = [
            ["this version", at.num("estimate"), at.num("details", "interval", "low"), at.num("details", "interval", "high")]
        ]
        if base:
            rows.append(svg.Interval("baseline", base["estimate"], base["low"], base["high"], "muted"))
            numbers.append(["baseline", *(at.num("details", "baseline", k) for k in ("estimate", "low", "high"))])
        marks = [] if result["threshold"] is None else [svg.Mark("limit", result["threshold"])]
        conditions = [
            [
                name,
                *(at.num("details", "conditions", name, k) for k in ("threshold", "low", "high")),
                at.text("details", "conditions", name, "verdict"),
            ]
            for name in details.get("conditions", {})
        ]
        yield Block(
            f"{metric} with its interval",
            drawn(
                svg.intervals(
                    rows,
                    marks,
                    title=f"{metric} of this version and of the baseline",
                    about="Points are estimates, bars their two-sided intervals; the dashed line is the limit. The table has the numbers.",
                    key=f"{key}-i",
                    unit=metric,
                )
            ),
            tables=(
                Table.of(metric, head, numbers),
                Table.of("held to", ["condition", "limit", "low", "high", "verdict"], conditions, (0, 4)),
            ),
        )
    picture = details.get("picture") or {}
    if "roc" in picture:
        yield _roc(picture["roc"], key)
    if "residuals" in picture:
        yield _residuals(at, picture["residuals"], key)


def _roc(curves: Mapping[str, Any], key: str) -> Block:
    series = [
        svg.Line(_who(name), list(zip(found["fpr"], found["tpr"], strict=True)), "good" if name == "candidate" else "muted")
        for name, found in curves.items()
    ]
    unit = svg.Axis(0.0, 1.0, "false positive rate")
    image = svg.lines(
        series,
        unit,
        svg.Axis(0.0, 1.0),
        title="ROC curves",
        about="True positive rate over false positive rate; the nearer to the upper left corner, the better.",
        key=f"{key}-roc",
    )
    return Block("ROC against the baseline", drawn(image))


def _residuals(at: Source, bands: Mapping[str, Any], key: str) -> Block:
    series = [
        (
            _who(name),
            [(b["predicted"], b["p10"], b["p50"], b["p90"]) for b in found],
            "good" if name == "candidate" else "muted",
        )
        for name, found in sorted(bands.items(), key=lambda kv: kv[0] == "candidate")
    ]
    image = svg.bands(
        series,
        title="Residuals by prediction",
        about="Actual minus predicted, by equally filled bands of the prediction: the line is the median, the area 80 percent of the rows.",
        key=f"{key}-res",
        unit="predicted",
    )
    tables = [
        Table.of(
            f"residuals of the {_who(name)}",
            ["predicted", "rows", "10 % below", "median", "10 % above"],
            [
                [at.num("details", "picture", "residuals", name, i, k) for k in ("predicted", "n", "p10", "p50", "p90")]
                for i in range(len(found))
            ],
            (),
        )
        for name, found in bands.items()
    ]
    return Block("Residuals against the baseline", drawn(image), tables=tables)


def _who(name: str) -> str:
    return "this version" if name == "candidate" else name


def _holdout(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    del key
    rows = []
    for name, found in result["details"].get("findings", {}).items():
        numbers = [f for f, v in found.items() if f != "verdict" and not isinstance(v, dict | list)]
        for i, field in enumerate(numbers or [""]):
            where = ("details", "findings", name)
            rows.append(
                [
                    name if i == 0 else "",
                    at.text(*where, "verdict") if i == 0 else "",
                    field,
                    at.num(*where, field) if field else "",
                ]
            )
    if rows:
        yield Block(
            "Findings",
            tables=(Table.of("findings", ["finding", "verdict", "what", "value"], rows, (0, 1, 2)),),
            folded=False,
            wide=True,
        )


def _fairness(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    for index, (name, found) in enumerate(result["details"].get("attributes", {}).items()):
        groups: Mapping[str, Any] = found.get("groups") or {}
        where = ("details", "attributes", name)
        order = sorted(groups, key=lambda g: -int(groups[g]["n"]))
        tables = []
        picture = None
        if order:
            rows = [
                svg.Interval(
                    f"{g} ({groups[g]['n']:,})",
                    groups[g].get("selection_rate"),
                    groups[g].get("rate_low"),
                    groups[g].get("rate_high"),
                    TONES.get(found["verdict"], "muted"),
                )
                for g in order[:_DRAWN_GROUPS]
            ]
            picture = drawn(
                svg.intervals(
                    rows,
                    [],
                    title=f"Selection rate by {name}",
                    about="Share of each group that is selected, with its 95 percent Wilson interval; in brackets the rows.",
                    key=f"{key}-{index}",
                    unit="selection rate",
                )
            )
            tables.append(
                Table.of(
                    f"groups of {name}",
                    ["group", "rows", "selected", "rate", "low", "high", "TPR", "FPR"],
                    [
                        [
                            g,
                            *(
                                at.num(*where, "groups", g, k)
                                for k in ("n", "selected", "selection_rate", "rate_low", "rate_high", "tpr", "fpr")
                            ),
                        ]
                        for g in order
                    ],
                )
            )
        ratio = "parity_ratio" if "parity_ratio" in found else "error_ratio"
        tables.append(
            Table.of(
                f"{name}",
                ["ratio", "low", "high", "rows", "verdict"],
                [[*(at.num(*where, k) for k in (ratio, "low", "high", "n")), at.text(*where, "verdict")]],
                (4,),
            )
        )
        yield Block(name, picture, tables=tables)


def _latency(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    details = result["details"]
    found = details.get("histogram")
    objective = result["threshold"]
    rows = [
        *([name, at.num("details", f"{name}_ms")] for name in ("p50", "p95", "p99")),
        ["calls", at.num("details", "calls", kind="count")],
        ["calls over the objective", at.num("details", "over", kind="count")],
        ["share over", at.num("details", "share_over", "estimate", kind="percent")],
        ["upper bound of the share", at.num("details", "share_over", "high", kind="percent")],
        ["allowed share", at.num("details", "share_over", "allowed", kind="percent")],
    ]
    image = None
    if found:
        mark = None if objective is None else svg.Mark(f"objective {shown(objective, 'ms')}", 1e3 * objective)
        image = drawn(
            svg.histogram(
                found["edges_ms"],
                found["counts"],
                mark,
                title="Latency of single calls",
                about="Calls by their duration on a logarithmic axis in milliseconds; the dashed line is the objective.",
                key=f"{key}-h",
                unit="ms, logarithmic",
            )
        )
    yield Block("Latency against the objective", image, tables=(Table.of("milliseconds and calls", ["", "value"], rows),))


def _calibration(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    details = result["details"]
    bins = details.get("bins") or []
    if bins:
        points = [(b["predicted"], b["observed"], b["half_width"], b["n"]) for b in bins if b["n"]]
        image = svg.reliability(
            points,
            title="Reliability diagram",
            about="Observed over predicted, by bin, with 95 percent bars; on the diagonal they agree. Bars below: rows.",
            key=f"{key}-r",
            unit="predicted",
        )
        rows = [
            [
                at.num("details", "bins", i, k, kind="count" if k == "n" else "")
                for k in ("predicted", "observed", "half_width", "n")
            ]
            for i in range(len(bins))
        ]
        yield Block(
            "Reliability", drawn(image), tables=(Table.of("bins", ["predicted", "observed", "± at 95 %", "rows"], rows, ()),)
        )
    groups: Mapping[str, Any] = (details.get("slices") or {}).get("groups") or {}
    if groups:
        order = sorted(groups, key=lambda g: -abs(groups[g]["gap"]))
        rows = [
            [g, *(at.num("details", "slices", "groups", g, k) for k in ("gap", "low", "high", "n"))] for g in order[:MOST_ROWS]
        ]
        yield Block(
            "Calibration by slice",
            tables=(
                Table(
                    "slices, largest gap first",
                    ["slice", "gap", "low", "high", "rows"],
                    rows,
                    (0,),
                    max(len(order) - MOST_ROWS, 0),
                ),
            ),
        )


def _weak_slices(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    details = result["details"]
    for name, title in (
        ("slices", "Weak slices, worst first"),
        ("largest", "Largest errors; none beyond the allowed factor for sure"),
    ):
        found = details.get(name) or []
        if not found:
            continue
        rows = [
            svg.Interval(f"{s['name']} ({s['n']:,})", s["ratio"], None, None, TONES[result["verdict"]])
            for s in found[:_DRAWN_GROUPS]
        ]
        marks = [] if result["threshold"] is None else [svg.Mark("allowed", result["threshold"]), svg.Mark("", 1.0)]
        image = svg.intervals(
            rows,
            marks,
            title=title,
            about="Error of each segment as a multiple of the error over all rows; in brackets the rows.",
            key=f"{key}-w",
            unit="times the overall error",
        )
        words = [
            [
                at.text("details", name, i, "name"),
                at.num("details", name, i, "ratio"),
                at.num("details", name, i, "n", kind="count"),
                at.num("details", name, i, "p_value"),
            ]
            for i in range(len(found))
        ]
        yield Block(title, drawn(image), tables=(Table.of("segments", ["segment", "× overall error", "rows", "p"], words),))
        return


def _declared(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    del key
    found = result["details"].get("slices") or {}
    rows = [
        [name, at.text("details", "slices", name, "verdict"), at.text("details", "slices", name, "summary")] for name in found
    ]
    if rows:
        yield Block(
            "Declared segments",
            tables=(Table.of("segments", ["segment", "verdict", "what"], rows, (0, 1, 2)),),
            folded=False,
            wide=True,
        )


def _proving(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    del key
    mutants = result["details"].get("mutants") or []
    rows = [
        [
            at.text("details", "mutants", i, "name"),
            at.text("details", "mutants", i, "what"),
            ", ".join(m["killed_by"]) or "survived",
            at.text("details", "mutants", i, "would_kill"),
        ]
        for i, m in enumerate(mutants)
    ]
    if rows:
        yield Block(
            "Mutants",
            tables=(
                Table.of(
                    "mutants of this version", ["mutant", "what it is", "stopped by", "what would stop it"], rows, (0, 1, 2, 3)
                ),
            ),
        )


_BLOCKS: dict[str, Callable[[Source, Mapping[str, Any], str], Iterator[Block]]] = {
    "performance": _performance,
    "holdout": _holdout,
    "fairness": _fairness,
    "latency": _latency,
    "calibration": _calibration,
    "weak_slices": _weak_slices,
    "slices": _declared,
    "proving": _proving,
}


def _provenance(evidence: Evidence, source: Source, body: Mapping[str, Any]) -> list[Table]:
    tables = []
    for part in ("model", "holdout", "baseline", "git", "environment"):
        found = body.get(part)
        if isinstance(found, Mapping) and found:
            tables.append(Table.of(part, ["", ""], [[k, source.text(part, k)] for k in found], (0, 1)))
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
