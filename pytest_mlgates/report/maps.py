"""The two maps of the operations page: drift by feature and run, and cost by cost centre, model and intent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlgates.report import svg
from pytest_mlgates.report.page import MOST_ROWS, Block, Fact, HeatMap, Section, Source, Table, drawn, shown

_TONES = ("h0", "h1", "h2", "h3", "h4")
KEY = (("h0", "quiet"), ("h1", "PSI from 0.1"), ("h2", "PSI from 0.2"), ("h3", "drift beyond chance"), ("h4", "no verdict"))
"""What the colours of a heat map mean."""
_OPEN_ROWS = 12
"""Features of a model that are not folded away: the most urgent ones."""
_STATES = {"drift": "fail", "insufficient": "open", "stable": "pass"}
_TILES = ("t0", "t1", "t2", "t3", "t4", "t5")


def drift(source: Source, document: Mapping[str, Any]) -> Section:
    """Return the section with a heat map per model."""
    maps = [_heat_map(source, one, i) for i, one in enumerate(document["drift"])]
    return Section(
        "drift", "Drift by feature and run", maps=maps, note="" if maps else "no drift run yet: mlgates drift --model NAME"
    )


def _heat_map(source: Source, one: Mapping[str, Any], i: int) -> HeatMap:
    """Rows of one model: features that drift now first, then by the PSI of the newest run."""
    newest = {row["feature"]: j for j, row in enumerate(one["latest"])}
    order = sorted(range(len(one["features"])), key=lambda f: _urgency(one, newest.get(one["features"][f])))
    rows = []
    for f in order[:MOST_ROWS]:
        cells, name = one["cells"][f], one["features"][f]
        j = newest.get(name)
        alarms = sum(c == _TONES.index("h3") for c in cells)
        about = f"{name}: drift beyond chance in {alarms} of {len(cells)} runs"
        row = {
            "feature": source.text("drift", i, "features", f),
            "strip": drawn(svg.strip(cells, _TONES, about)),
            "psi": "–", "q": "–", "status": "not in it", "severity": "", "tone": "",
        }  # fmt: skip
        if j is not None:
            where = ("drift", i, "latest", j)
            found = one["latest"][j]
            row |= {"psi": source.num(*where, "psi"), "q": source.num(*where, "q"), "status": source.text(*where, "status")}
            row |= {"severity": found["severity"] and source.text(*where, "severity"), "tone": _STATES.get(found["status"], "")}
        rows.append(row)
    runs = len(one["runs"])
    return HeatMap(
        source.text("drift", i, "model"),
        source.time("drift", i, "runs", 0, "at"),
        source.time("drift", i, "runs", runs - 1, "at") if runs > 1 else "",
        rows[:_OPEN_ROWS],
        rows[_OPEN_ROWS:],
        max(len(order) - MOST_ROWS, 0),
    )


def _urgency(one: Mapping[str, Any], j: int | None) -> tuple[int, float]:
    if j is None:
        return 2, 0.0
    row = one["latest"][j]
    return int(row["status"] != "drift"), -(row["psi"] or 0.0)


def amount(source: Source, *path: str | int) -> Any:
    """An amount of money with its currency."""
    return source.num(*path, kind="money", unit=str(source.value("cost", "currency") or ""))


def cost(source: Source, document: Mapping[str, Any]) -> Section:
    """Return the section with a card a surface, and the treemap."""
    from markupsafe import escape

    found = document["cost"]
    cards = [_card(source, name, one, found["total"]) for name, one in found["surfaces"].items()]
    blocks = [_treemap(source, found)] if any(t["amount"] > 0 for t in found["tiles"]) else []
    parts: list[Any] = ["rates: "]
    for k in found["rates"]:
        parts += [f"{k.replace('_', ' ')} ", amount(source, "cost", "rates", k), ", "]
    return Section("cost", "Cost", blocks=blocks, note=escape("").join(escape(p) for p in parts[:-1]), facts=cards)


def _card(source: Source, name: str, one: Mapping[str, Any], total: float) -> Fact:
    """A surface: what it cost, its share, and what was measured of it."""
    from markupsafe import Markup

    where = ("cost", "surfaces", name)
    if name == "storage":
        measured = source.num(*where, "bytes", kind="bytes")
    else:
        runs, seconds = source.num(*where, "runs", kind="count"), source.num(*where, "seconds", kind="seconds")
        measured = Markup("{} runs, {}").format(runs, seconds)
        if one["calls"]:
            measured += Markup(", {} {}").format(
                source.num(*where, "calls", kind="count"), "rows" if name in ("batch", "drift", "training") else "calls"
            )
    if not one["runs"]:
        measured = "nothing was measured"
    return Fact(name, amount(source, *where, "amount"), measured, drawn(svg.meter(one["amount"], total or 1.0)))


def _treemap(source: Source, found: Mapping[str, Any]) -> Block:
    tiles = found["tiles"]
    centers = list(dict.fromkeys(t["cost_center"] for t in tiles))
    tagged = [c for c in centers if c != "untagged"]
    kinds = {c: _TILES[tagged.index(c) % len(_TILES)] if c in tagged else "none" for c in centers}
    currency = found["currency"]
    image = svg.treemap(
        [svg.Tile(t["cost_center"], t["model"], _note(t, currency), t["amount"], kinds[t["cost_center"]]) for t in tiles],
        title="Cost by cost centre, model and intent",
        about="Areas are amounts; a colour is a cost centre, grey is untagged work. The table has the numbers.",
        key="cost",
    )
    words = [
        [
            *(source.text("cost", "tiles", i, k) for k in ("cost_center", "model", "intent")),
            amount(source, "cost", "tiles", i, "amount"),
        ]
        for i in range(len(tiles))
    ]
    return Block(
        "By cost centre, model and intent",
        drawn(image),
        tables=(Table.of("amounts", ["cost centre", "model", "intent", "cost"], words, (0, 1, 2)),),
        wide=True,
        key=[(kinds[c], c) for c in centers],
    )


def _note(tile: Mapping[str, Any], currency: str) -> str:
    return f"{tile['intent']} · {currency}{shown(tile['amount'], 'money')}"
