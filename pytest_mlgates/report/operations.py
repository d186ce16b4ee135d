"""The operations page: the document of `services.operations` to pictures, words and tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlgates.report import page, svg
from pytest_mlgates.report.page import Block, Section, Source, Table, drawn
from pytest_mlgates.report.text import number

_TONES = ("h0", "h1", "h2", "h3", "h4")
_KEY = (("h0", "quiet"), ("h1", "PSI from 0.1"), ("h2", "PSI from 0.2"), ("h3", "drift beyond chance"), ("h4", "no verdict"))
_TILES = ("t0", "t1", "t2", "t3")


def operations_page(document: Mapping[str, Any], *, model: str = "") -> str:
    """Return the page of one document; ``model`` is named in the title."""
    source = Source(document)
    sections = [
        _serving(source, document),
        _readiness(source, document),
        _races(source, document),
        _drift(source, document),
        _alerts(source, document),
        _endpoint(source, document),
        _batch(source, document),
        _cost(source, document),
    ]
    return page.render(
        "operations.html",
        title=f"Operations{f' of {model}' if model else ''}",
        created=source.text("created"),
        days=source.num("days"),
        cards=_cards(source, document),
        sections=[s for s in sections if s is not None],
        promotions=_promotions(source, document),
        key=_KEY,
    )


def _cards(source: Source, document: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The page in one line of cards: name, figure, remark."""
    serving = [v for row in document["serving"] for v in row["production"]]
    drift = document["drift"]
    alarms = [c for one in drift for c in one["latest"] if c["status"] == "drift"]
    return [
        ("in production", f"{len(serving)}", "model versions"),
        ("open incidents", source.num("alerts", "open"), "alerts that are not resolved"),
        ("features that drift", f"{len(alarms)}", "in each model's newest run"),
        ("cost", _amount(source, "cost", "total"), "of what was measured"),
    ]


def _amount(source: Source, *path: str | int) -> Any:
    from markupsafe import Markup, escape

    return escape(source.value("cost", "currency") or "") + Markup(source.num(*path))  # noqa: S704 num escapes


def _serving(source: Source, document: Mapping[str, Any]) -> Section:
    rows = []
    for i, row in enumerate(document["serving"]):
        for stage in ("production", "staging"):
            for j in range(len(row[stage])):
                where = ("serving", i, stage, j)
                rows.append(
                    [
                        source.text("serving", i, "model"),
                        stage,
                        *(source.text(*where, k) for k in ("version", "verdict", "created", "run_id", "evidence")),
                    ]
                )
    table = Table.of(
        "versions by stage", ["model", "stage", "version", "gates", "registered", "run", "evidence"], rows, tuple(range(7))
    )
    return Section(
        "serving",
        "Which version serves",
        blocks=[Block("", tables=(table,), folded=False, wide=True)] if rows else [],
        note="" if rows else "no version is in Staging or Production",
    )


def _readiness(source: Source, document: Mapping[str, Any]) -> Section | None:
    found = document.get("readiness")
    if not found:
        return None
    blocks = []
    for i, one in enumerate(found):
        rows = [
            [source.text("readiness", i, "items", j, k) for k in ("number", "verdict", "title", "evidence", "date")]
            for j in range(len(one["items"]))
        ]
        blocks.append(
            Block(
                str(one["model"]),
                tables=(
                    Table.of(
                        f"twelve items of {one['model']}",
                        ["item", "verdict", "what", "evidence", "date"],
                        rows,
                        tuple(range(5)),
                    ),
                ),
                folded=False,
                wide=True,
            )
        )
    bad = any(i["verdict"] != "pass" for one in found for i in one["items"])
    return Section("readiness", "Readiness", "fail" if bad else "pass", blocks=blocks)


def _races(source: Source, document: Mapping[str, Any]) -> Section:
    blocks = []
    for i, race in enumerate(document["races"]):
        losses = race["losses"]
        first = _day(losses[0]["date"])
        lines = [
            svg.Line(who, [((_day(x["date"]) - first).days, x[who]) for x in losses], tone)
            for who, tone in (("champion", "muted"), ("challenger", "accent"))
        ]
        x = svg.Axis(0, max((_day(losses[-1]["date"]) - first).days, 1), f"days since {first}")
        y = svg.Axis.around([v for line in lines for _, v in line.points])
        image = svg.lines(
            lines,
            x,
            y,
            title=f"{race['champion']} against {race['challenger']}",
            about="Daily error of champion and challenger on the same rows; the lower, the better.",
            key=f"race-{i}",
        )
        facts = [
            [k, source.num("races", i, k.replace(" ", "_"))]
            for k in ("days", "wins", "best streak", "e value", "best e value", "e required")
        ]
        daily = [
            [
                source.text("races", i, "losses", j, "date"),
                *(source.num("races", i, "losses", j, k) for k in ("champion", "challenger")),
            ]
            for j in range(len(losses))
        ]
        blocks.append(
            Block(
                f"{race['champion']} ← {race['challenger']}",
                drawn(image),
                [source.text("races", i, "summary")],
                (
                    Table.of("how it stands", ["", "value"], facts),
                    Table.of("daily RMSE", ["day", "champion", "challenger"], daily),
                ),
            )
        )
    return Section(
        "race",
        "Champion and challenger",
        blocks=blocks,
        note="" if blocks else "no pair was compared yet: mlgates challenger run",
    )


def _day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def _drift(source: Source, document: Mapping[str, Any]) -> Section:
    blocks = []
    for i, one in enumerate(document["drift"]):
        runs, features = one["runs"], one["features"]
        span = f"{runs[0]['at'][:10]} to {runs[-1]['at'][:10]}"
        image = svg.heat_map(
            len(runs),
            list(zip(features, one["cells"], strict=True)),
            _TONES,
            title=f"Drift of {one['model']}",
            about=f"Features by run, {len(runs)} runs from {span}; colours are in the key above.",
            key=f"heat-{i}",
        )
        rows = [
            [
                source.text("drift", i, "latest", j, "feature"),
                *(source.num("drift", i, "latest", j, k) for k in ("psi", "q")),
                *(source.text("drift", i, "latest", j, k) for k in ("status", "severity")),
            ]
            for j in range(len(one["latest"]))
        ]
        blocks.append(
            Block(
                f"{one['model']}: {len(runs)} runs, {span}",
                drawn(image),
                tables=(Table.of("newest run", ["feature", "PSI", "q", "verdict", "severity"], rows, (0, 3, 4)),),
                wide=len(runs) > 60,
            )
        )
    return Section(
        "drift",
        "Drift by feature and run",
        blocks=blocks,
        note="" if blocks else "no drift run yet: mlgates drift --model NAME",
    )


def _alerts(source: Source, document: Mapping[str, Any]) -> Section:
    incidents = document["alerts"]["incidents"]
    keys = ("fired", "severity", "rule", "model", "metric")
    rows = [
        [
            *(source.text("alerts", "incidents", i, k) for k in keys),
            source.num("alerts", "incidents", i, "value"),
            source.num("alerts", "incidents", i, "threshold"),
            source.text("alerts", "incidents", i, "resolved") if one["resolved"] else "open",
        ]
        for i, one in enumerate(incidents)
    ]
    table = Table.of(
        "incidents, newest first",
        ["fired", "severity", "rule", "model", "metric", "value", "limit", "resolved"],
        rows,
        (0, 1, 2, 3, 4, 7),
    )
    blocks = [Block("", tables=(table,), folded=False, wide=True)] if rows else []
    lead = ["deliveries that failed: ", source.num("alerts", "failed_deliveries")]
    return Section("alerts", "Alerts and incidents", blocks=blocks, lead=[_joined(lead)], note="" if rows else "no alert fired")


def _joined(parts: Sequence[Any]) -> Any:
    from markupsafe import escape

    return escape("").join(escape(p) for p in parts)


def _promotions(source: Source, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {k: source.text("promotions", i, k) for k in ("at", "model", "version", "from", "to", "state", "actor", "rationale")}
        | {"kind": row["state"]}
        for i, row in enumerate(document["promotions"])
    ]


def _endpoint(source: Source, document: Mapping[str, Any]) -> Section:
    blocks = []
    for i, one in enumerate(document["endpoint"]):
        image = svg.histogram(
            one["edges_ms"],
            one["counts"],
            None,
            title=f"Latency of {one['model']} v{one['version']}",
            about="Logged calls by their duration on a logarithmic axis in milliseconds.",
            key=f"endpoint-{i}",
            unit="ms, logarithmic",
        )
        rows = [
            [
                name.replace("_", " "),
                source.num("endpoint", i, name, kind="count" if name in ("calls", "requests", "errors", "servers") else ""),
            ]
            for name in ("calls", "p50_ms", "p95_ms", "p99_ms", "servers", "requests", "errors")
        ]
        blocks.append(
            Block(
                f"{one['model']} v{one['version']}",
                drawn(image),
                tables=(
                    Table.of(
                        "calls in the prediction log; requests and errors of the servers that ended",
                        ["", "value"],
                        [*rows, ["last call", source.text("endpoint", i, "last")]],
                    ),
                ),
                folded=False,
            )
        )
    return Section("endpoint", "Endpoint", blocks=blocks, note="" if blocks else "the prediction log has no call yet")


def _batch(source: Source, document: Mapping[str, Any]) -> Section:
    rows = [
        [
            source.text("batch", i, "at"),
            source.text("batch", i, "model"),
            source.text("batch", i, "version"),
            source.num("batch", i, "rows", kind="count"),
            source.num("batch", i, "seconds"),
            source.text("batch", i, "status"),
        ]
        for i in range(len(document["batch"]))
    ]
    table = Table.of("runs, newest first", ["scored", "model", "version", "rows", "seconds", "ended"], rows, (0, 1, 2, 5))
    return Section(
        "batch",
        "Batch scoring",
        blocks=[Block("", tables=(table,), folded=False, wide=True)] if rows else [],
        note="" if rows else "no batch run yet: python pipelines/batch_score.py --model NAME",
    )


def _cost(source: Source, document: Mapping[str, Any]) -> Section:
    found = document["cost"]
    blocks = []
    surfaces = list(found["surfaces"])
    rows = [
        [
            name,
            _amount(source, "cost", "surfaces", name, "amount"),
            source.num("cost", "surfaces", name, "runs", kind="count"),
            source.num("cost", "surfaces", name, "seconds"),
            source.num("cost", "surfaces", name, "calls", kind="count"),
            source.num("cost", "surfaces", name, "bytes", kind="count"),
        ]
        for name in surfaces
    ]
    blocks.append(
        Block(
            "By surface",
            tables=(
                Table.of(
                    "what runs measured of themselves", ["surface", "cost", "runs", "seconds", "calls or rows", "bytes"], rows
                ),
            ),
            folded=False,
            wide=True,
        )
    )
    tiles = found["tiles"]
    if any(t["amount"] > 0 for t in tiles):
        centers = list(dict.fromkeys(t["cost_center"] for t in tiles))
        kinds = {c: "none" if c == "untagged" else _TILES[i % len(_TILES)] for i, c in enumerate(centers)}
        image = svg.treemap(
            [(f"{t['model']} · {t['intent']}", t["amount"], kinds[t["cost_center"]]) for t in tiles],
            title="Cost by cost centre, model and intent",
            about="Areas are amounts; a colour is a cost centre, grey is untagged work. The table has the numbers.",
            key="cost",
        )
        words = [
            [
                *(source.text("cost", "tiles", i, k) for k in ("cost_center", "model", "intent")),
                _amount(source, "cost", "tiles", i, "amount"),
            ]
            for i in range(len(tiles))
        ]
        blocks.append(
            Block(
                "By cost centre, model and intent",
                drawn(image),
                tables=(Table.of("amounts", ["cost centre", "model", "intent", "cost"], words, (0, 1, 2)),),
                wide=True,
            )
        )
    rates = ", ".join(f"{k.replace('_', ' ')} {found['currency']}{number(v)}" for k, v in found["rates"].items())
    return Section("cost", "Cost", blocks=blocks, note=f"rates: {rates}")
