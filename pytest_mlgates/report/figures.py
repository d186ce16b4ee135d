"""What each gate found, as the picture that shows it and the numbers behind it; every number is the evidence's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_mlgates.report import svg
from pytest_mlgates.report.page import MOST_ROWS, Block, Fact, Source, Table, drawn, shown

TONES = {"pass": "good", "fail": "bad", "error": "bad", "inconclusive": "open", "skip": "muted"}
_DRAWN_ROWS = 16


def blocks(at: Source, result: Mapping[str, Any], key: str) -> list[Block]:
    """Return the blocks of a gate's result; ``key`` makes identifiers unique on the page."""
    make = _BLOCKS.get(str(result["gate"]))
    return list(make(at, result, key)) if make is not None and isinstance(result.get("details"), dict) else []


def _performance(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    details = result["details"]
    metric, own, base = str(details.get("metric", "metric")), details.get("interval"), details.get("baseline")
    tone = TONES[result["verdict"]]
    if own:
        rows = [svg.Interval("this version", result["estimate"], own["low"], own["high"], tone)]
        numbers = [
            ["this version", at.num("estimate"), at.num("details", "interval", "low"), at.num("details", "interval", "high")]
        ]
        if base:
            rows.append(svg.Interval("baseline", base["estimate"], base["low"], base["high"], "muted"))
            numbers.append(["baseline", *(at.num("details", "baseline", k) for k in ("estimate", "low", "high"))])
        marks = [] if result["threshold"] is None else [svg.Mark(f"limit {shown(result['threshold'])}", result["threshold"])]
        conditions = [
            [
                name,
                *(at.num("details", "conditions", name, k) for k in ("threshold", "low", "high")),
                str(condition["verdict"]),
            ]
            for name, condition in details.get("conditions", {}).items()
        ]
        image = svg.intervals(
            rows,
            marks,
            title=f"{metric} of this version and of the baseline",
            about="Points are estimates, bars their two-sided intervals; the dashed line is the limit. The table has the numbers.",
            key=f"{key}-i",
            unit=metric,
        )
        yield Block(
            f"{metric} with its interval",
            drawn(image),
            tables=(
                Table.of(metric, ["", "estimate", "low", "high"], numbers),
                Table.of("held to", ["condition", "limit", "low", "high", "verdict"], conditions, (0, 4)),
            ),
            folded=False,
        )
    picture = details.get("picture") or {}
    if "roc" in picture:
        yield _roc(picture["roc"], key)
    if "residuals" in picture:
        yield _residuals(at, picture["residuals"], key)


def _roc(curves: Mapping[str, Any], key: str) -> Block:
    series = [
        svg.Line(_who(name), list(zip(found["fpr"], found["tpr"], strict=True)), _whose(name))
        for name, found in sorted(curves.items(), key=lambda kv: kv[0] == "candidate")
    ]
    image = svg.lines(
        [svg.Line("", [(0.0, 0.0), (1.0, 1.0)], "faint"), *series],
        svg.Axis(0.0, 1.0, "false positive rate"),
        svg.Axis(0.0, 1.0),
        title="ROC curves",
        about="True positive rate over false positive rate; the nearer to the upper left corner, the better. The thin line is chance.",
        key=f"{key}-roc",
        height=280,
    )
    return Block("ROC against the baseline", drawn(image), ["true positive rate over false positive rate"])


def _residuals(at: Source, found: Mapping[str, Any], key: str) -> Block:
    series = [
        (_who(name), [(b["predicted"], b["p10"], b["p50"], b["p90"]) for b in bands], _whose(name))
        for name, bands in sorted(found.items(), key=lambda kv: kv[0] == "candidate")
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
                for i in range(len(bands))
            ],
            (),
        )
        for name, bands in found.items()
    ]
    words = "actual minus predicted: median, and the area that holds all but the outer tenths"
    return Block("Residuals against the baseline", drawn(image), [words], tables)


def _who(name: str) -> str:
    return "this version" if name == "candidate" else name


def _whose(name: str) -> str:
    return "accent" if name == "candidate" else "muted"


_FINDING = {"value": ("estimate", "share"), "low": ("low",), "high": ("high",), "limit": ("max",)}
"""Columns of the findings' table, and the names that they have in the evidence."""


def _holdout(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    rows, drawn_rows = [], []
    for name, finding in result["details"].get("findings", {}).items():
        if not isinstance(finding, Mapping):
            continue
        where = ("details", "findings", name)
        mine = {head: next((f for f in names if finding.get(f) is not None), None) for head, names in _FINDING.items()}
        others = [
            f for f, v in finding.items() if f not in (*mine.values(), "verdict") and not isinstance(v, dict | list | None)
        ]
        numbers = ["" if f is None else at.num(*where, f) for f in mine.values()]
        rows.append([_words(name), str(finding["verdict"]), *numbers, [Fact(_words(f), at.num(*where, f)) for f in others]])
        limit, value = finding.get("max"), finding.get(mine["value"] or "")
        if limit and value is not None:
            low, high = (None if finding.get(f) is None else finding[f] / limit for f in ("low", "high"))
            drawn_rows.append(svg.Interval(_words(name), value / limit, low, high, TONES.get(str(finding["verdict"]), "muted")))
    image = None
    if drawn_rows:
        image = drawn(
            svg.intervals(
                drawn_rows,
                [svg.Mark("", 0.0, "base"), svg.Mark("limit", 1.0)],
                title="Findings against their limits",
                about="Each finding as a share of its own limit, with its bounds; beyond the dashed line at the right it is too large.",
                key=f"{key}-f",
                numbered=False,
            )
        )
    if rows:
        heads = ["finding", "verdict", *_FINDING, "further"]
        used = [i for i in range(len(heads)) if any(row[i] for row in rows)]
        left = tuple(i for i, column in enumerate(used) if heads[column] in ("finding", "verdict", "further"))
        table = Table.of("findings", [heads[i] for i in used], [[row[i] for i in used] for row in rows], left)
        words = ["each as a share of its own limit"] if image is not None else []
        yield Block("Findings against their limits" if words else "Findings", image, words, (table,), folded=False)


def _words(name: str) -> str:
    return name.replace("_", " ")


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
                    f"{g} ({groups[g]['n']:,} rows)",
                    groups[g].get("selection_rate"),
                    groups[g].get("rate_low"),
                    groups[g].get("rate_high"),
                    TONES.get(found["verdict"], "muted"),
                )
                for g in order[:_DRAWN_ROWS]
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
            head = ["group", "rows", "selected", "rate", "low", "high", "TPR", "FPR"]
            fields = ("n", "selected", "selection_rate", "rate_low", "rate_high", "tpr", "fpr")
            tables.append(
                Table.of(f"groups of {name}", head, [[g, *(at.num(*where, "groups", g, k) for k in fields)] for g in order])
            )
        ratio = "parity_ratio" if "parity_ratio" in found else "error_ratio"
        facts = [
            Fact(_words(ratio), at.num(*where, ratio), tone=str(found["verdict"])),
            Fact("bounds", _range(at, (*where, "low"), (*where, "high"))),
            Fact("rows", at.num(*where, "n", kind="count")),
        ]
        yield Block(f"Selection rate by {name}", picture, tables=tables, facts=facts)


def _range(at: Source, low: tuple[str | int, ...], high: tuple[str | int, ...]) -> Any:
    from markupsafe import Markup, escape

    return Markup("{}&thinsp;…&thinsp;{}").format(escape(at.num(*low)), escape(at.num(*high)))


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
                unit="milliseconds, logarithmic",
            )
        )
    yield Block("Calls by duration", image, tables=(Table.of("milliseconds and calls", ["", "value"], rows),))


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
        yield _slices(at, details["slices"], groups, key)


def _slices(at: Source, found: Mapping[str, Any], groups: Mapping[str, Any], key: str) -> Block:
    order = sorted(groups, key=lambda g: -abs(groups[g]["gap"]))
    tone = TONES.get(str(found.get("verdict")), "muted")
    rows = [
        svg.Interval(f"{g} ({groups[g]['n']:,} rows)", abs(groups[g]["gap"]), groups[g]["low"], groups[g]["high"], tone)
        for g in order[:_DRAWN_ROWS]
    ]
    limit = found.get("max_gap")
    image = svg.intervals(
        rows,
        [] if limit is None else [svg.Mark(f"allowed {shown(limit)}", limit)],
        title="Calibration gap by slice",
        about="Size of the gap between observed and predicted in each slice, with its bounds, largest first.",
        key=f"{key}-s",
        unit="size of the gap",
    )
    numbers = [[g, *(at.num("details", "slices", "groups", g, k) for k in ("gap", "low", "high", "n"))] for g in order]
    return Block(
        "Gap by slice, largest first",
        drawn(image),
        tables=(
            Table("slices", ["slice", "gap", "low", "high", "rows"], numbers[:MOST_ROWS], (0,), max(len(order) - MOST_ROWS, 0)),
        ),
    )


_WORST = 3
"""Slices that are told in words; the others are in the table."""


def _weak_slices(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    details = result["details"]
    weak = details.get("slices") or []
    name, found = ("slices", weak) if weak else ("largest", details.get("largest") or [])
    if not found:
        return
    rows = [
        svg.Interval(f"{s['name']} ({s['n']:,} rows)", s["ratio"], None, None, TONES[result["verdict"]])
        for s in found[:_DRAWN_ROWS]
    ]
    marks = [svg.Mark("overall", 1.0, "base")]
    if result["threshold"] is not None:
        marks.append(svg.Mark(f"allowed {shown(result['threshold'])}×", result["threshold"]))
    image = svg.intervals(
        rows,
        marks,
        title="Errors by segment",
        about="Error of each segment as a multiple of the error over all rows; in brackets the rows.",
        key=f"{key}-w",
        unit="times the overall error",
    )
    numbers = [
        [
            at.text("details", name, i, "name"),
            at.num("details", name, i, "ratio"),
            at.num("details", name, i, "n", kind="count"),
            at.num("details", name, i, "p_value"),
        ]
        for i in range(len(found))
    ]
    title = "Weak slices, worst first" if weak else "Largest errors; none beyond the allowed factor for sure"
    table = Table.of("segments", ["segment", "× overall error", "rows", "p"], numbers)
    yield Block(title, drawn(image), _in_words(at, name, found), (table,))


def _in_words(at: Source, name: str, found: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The worst slices as sentences."""
    from markupsafe import Markup

    return [
        Markup("Where <strong>{}</strong>, the error is {} times that of all rows ({} rows).").format(
            at.text("details", name, i, "name"),
            at.num("details", name, i, "ratio"),
            at.num("details", name, i, "n", kind="count"),
        )
        for i in range(min(len(found), _WORST))
    ]


def _declared(at: Source, result: Mapping[str, Any], key: str) -> Iterator[Block]:
    del key
    found = result["details"].get("slices") or {}
    rows = [[name, str(one["verdict"]), at.text("details", "slices", name, "summary")] for name, one in found.items()]
    if rows:
        table = Table.of("segments", ["segment", "verdict", "what"], rows, (0, 1, 2))
        yield Block("Declared segments", tables=(table,), folded=False, wide=True)


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
        score = result["estimate"]
        bar = None if score is None else drawn(svg.meter(score, 1.0, TONES[result["verdict"]]))
        head = ["mutant", "what it is", "stopped by", "what would stop it"]
        yield Block(
            "Known-bad mutants of this version",
            tables=(Table.of("mutants of this version", head, rows, (0, 1, 2, 3)),),
            facts=[
                Fact("kill score", at.num("estimate"), "share of the mutants that a gate stopped", bar, str(result["verdict"]))
            ],
            folded=False,
            wide=True,
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
