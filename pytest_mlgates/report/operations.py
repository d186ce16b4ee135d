"""The operations page: the document of `services.operations` to pictures, words and tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlgates.report import maps, page, svg
from pytest_mlgates.report.page import Block, Fact, Section, Source, Table, drawn


def operations_page(document: Mapping[str, Any], *, model: str = "") -> str:
    """Return the page of one document; ``model`` is named in the title."""
    source = Source(document)
    sections = [
        _serving(source, document),
        _readiness(source, document),
        _races(source, document),
        maps.drift(source, document),
        _alerts(source, document),
        _promotions(source, document),
        _endpoint(source, document),
        _batch(source, document),
        maps.cost(source, document),
    ]
    troubles = document["state"]["troubles"]
    return page.render(
        "operations.html",
        title=f"Operations{f' of {model}' if model else ''}",
        verdict="fail" if troubles else "pass",
        word="ATTENTION" if troubles else "ALL QUIET",
        means="; ".join(troubles) if troubles else "nothing waits for you",
        created=source.time("created"),
        days=source.num("days"),
        cards=_cards(source, document),
        sections=[s for s in sections if s is not None],
        key=maps.KEY,
    )


def _cards(source: Source, document: Mapping[str, Any]) -> list[Fact]:
    """The page in one line of cards."""
    state = document["state"]
    cards = [
        Fact("in production", source.num("state", "in_production"), "model versions", link="serving"),
        Fact(
            "open incidents",
            source.num("alerts", "open"),
            "not resolved",
            tone=_tone(document["alerts"]["open"]),
            link="alerts",
        ),
        Fact(
            "features that drift",
            source.num("state", "drifting"),
            "in the newest run",
            tone=_tone(state["drifting"]),
            link="drift",
        ),
    ]
    if state.get("unready") is not None:
        tone = _tone(state["unready"])
        cards.append(
            Fact("readiness items open", source.num("state", "unready"), "over all models", tone=tone, link="readiness")
        )
    return [*cards, Fact("cost", maps.amount(source, "cost", "total"), "of what was measured", link="cost")]


def _tone(count: int) -> str:
    return "bad" if count else "good"


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
                        source.text(*where, "version"),
                        row[stage][j]["verdict"] or "–",
                        source.time(*where, "created"),
                        source.text(*where, "run_id"),
                        source.text(*where, "evidence"),
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
            [
                source.text("readiness", i, "items", j, "number"),
                item["verdict"],
                source.text("readiness", i, "items", j, "title"),
                source.text("readiness", i, "items", j, "evidence"),
                source.time("readiness", i, "items", j, "date") if item["date"] else "–",
            ]
            for j, item in enumerate(one["items"])
        ]
        blocks.append(
            Block(
                str(one["model"]),
                tables=(
                    Table.of(
                        f"twelve items of {one['model']}",
                        ["item", "verdict", "what", "evidence", "date"],
                        rows,
                        (1, 2, 3, 4),
                    ),
                ),
                folded=False,
                wide=True,
            )
        )
    bad = any(i["verdict"] != "pass" for one in found for i in one["items"])
    return Section("readiness", "Readiness", "fail" if bad else "pass", blocks=blocks)


def _races(source: Source, document: Mapping[str, Any]) -> Section:
    blocks = [_race(source, race, i) for i, race in enumerate(document["races"])]
    note = "" if blocks else "no pair was compared yet: mlgates challenger run"
    return Section("race", "Champion and challenger", blocks=blocks, note=note)


def _race(source: Source, race: Mapping[str, Any], i: int) -> Block:
    """Daily losses of a pair, and how far wins and evidence are on their way."""
    losses = race["losses"]
    first = _day(losses[0]["date"])
    lines = [
        svg.Line(who, [((_day(x["date"]) - first).days, x[who]) for x in losses], tone)
        for who, tone in (("champion", "muted"), ("challenger", "accent"))
    ]
    x = svg.Axis(0, max((_day(losses[-1]["date"]) - first).days, 1), words=lambda d: f"{first + dt.timedelta(days=d):%d %b}")
    y = svg.Axis.around([v for line in lines for _, v in line.points])
    image = svg.lines(
        lines,
        x,
        y,
        title=f"{race['champion']} against {race['challenger']}",
        about="Daily error of champion and challenger on the same rows; the lower, the better.",
        key=f"race-{i}",
    )
    ahead = "good" if race["agrees"] else "accent"
    facts = [
        Fact("days compared", source.num("races", i, "days", kind="count")),
        Fact(
            "won by the challenger",
            source.num("races", i, "wins", kind="count"),
            bar=drawn(svg.meter(race["wins"], race["days"])),
        ),
        Fact("best run of wins", source.num("races", i, "best_streak", kind="count")),
        Fact(
            "e-value",
            source.num("races", i, "e_value"),
            _joined(["of ", source.num("races", i, "e_required"), " required; best ", source.num("races", i, "best_e_value")]),
            drawn(svg.meter(race["e_value"] or 0.0, race["e_required"] or 1.0, ahead)),
        ),
    ]
    daily = [
        [
            source.text("races", i, "losses", j, "date"),
            *(source.num("races", i, "losses", j, k) for k in ("champion", "challenger")),
        ]
        for j in range(len(losses))
    ]
    return Block(
        f"{race['champion']} ← {race['challenger']}",
        drawn(image),
        [source.text("races", i, "summary")],
        (Table.of("daily RMSE", ["day", "champion", "challenger"], daily),),
        facts=facts,
    )


def _day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def _alerts(source: Source, document: Mapping[str, Any]) -> Section:
    incidents = document["alerts"]["incidents"]
    keys = ("severity", "rule", "model", "metric")
    rows = [
        [
            source.time("alerts", "incidents", i, "fired"),
            *(source.text("alerts", "incidents", i, k) for k in keys),
            source.num("alerts", "incidents", i, "value"),
            source.num("alerts", "incidents", i, "threshold"),
            source.time("alerts", "incidents", i, "resolved") if one["resolved"] else "open",
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


def _promotions(source: Source, document: Mapping[str, Any]) -> Section:
    told = ("model", "version", "from", "to", "state", "actor")
    rows = []
    for i, row in enumerate(document["promotions"]):
        shown = {k: source.text("promotions", i, k) for k in told} | {
            "at": source.time("promotions", i, "at"),
            "kind": row["state"],
        }
        rows.append(shown | {"rationale": source.text("promotions", i, "rationale") if row["rationale"] else ""})
    return Section("promotions", "Promotions", timeline=rows, note="" if rows else "the audit has no row")


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
                        [*rows, ["last call", source.time("endpoint", i, "last")]],
                    ),
                ),
                folded=False,
            )
        )
    return Section("endpoint", "Endpoint", blocks=blocks, note="" if blocks else "the prediction log has no call yet")


def _batch(source: Source, document: Mapping[str, Any]) -> Section:
    rows = [
        [
            source.time("batch", i, "at"),
            source.text("batch", i, "model"),
            source.text("batch", i, "version"),
            source.num("batch", i, "rows", kind="count"),
            source.num("batch", i, "seconds", kind="seconds"),
            source.text("batch", i, "status") if row["status"] else "–",
        ]
        for i, row in enumerate(document["batch"])
    ]
    table = Table.of("runs, newest first", ["scored", "model", "version", "rows", "took", "ended"], rows, (0, 1, 2, 5))
    return Section(
        "batch",
        "Batch scoring",
        blocks=[Block("", tables=(table,), folded=False, wide=True)] if rows else [],
        note="" if rows else "no batch run yet: python pipelines/batch_score.py --model NAME",
    )
