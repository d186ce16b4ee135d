"""The twelve items of the tutorial's readiness checklist, each judged by evidence from the systems themselves.

An item is PASS, FAIL or UNKNOWN (it cannot be looked at from here), and says what was looked at and of what date that is.
Each item rests on facts of its own, so that one fact that changes moves one item.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_mlgates.config import GATES, Settings
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import Verdict

if TYPE_CHECKING:
    from pytest_mlgates.services.readiness_facts import Facts

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
_KINDS = ("email", "teams", "webhook")
_SURFACES = ("training", "endpoint", "drift", "storage")
_COST_DAYS = 7


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One item: ``date`` is that of the evidence, empty where there is none."""

    number: int
    title: str
    verdict: str
    evidence: str
    date: str = ""


Finding = tuple[str, str, "dt.datetime | None"]


def judge(facts: Facts, settings: Settings) -> list[Item]:
    """Return the twelve items in their order."""
    out = []
    for number, (title, item) in enumerate(_ITEMS, start=1):
        verdict, evidence, date = item(facts, settings)
        out.append(Item(number, title, verdict, evidence, "" if date is None else date.isoformat(timespec="seconds")))
    return out


def _production(facts: Facts, settings: Settings) -> Finding:
    del settings
    if len(facts.production) != 1:
        return FAIL, f"{len(facts.production)} versions are in Production, expected one", None
    champion = facts.production[0]
    others = [f"v{v.version}" for v in facts.versions if v.version != champion.version]
    if not others:
        return FAIL, f"v{champion.version} is in Production, and no other version is kept to roll back to", champion.created
    return PASS, f"v{champion.version} is in Production; kept: {', '.join(others)}", champion.created


def _source(facts: Facts, settings: Settings) -> Finding:
    if facts.champion is None:
        return FAIL, "no version is in Production", None
    sha = facts.code.get("git_sha", "")
    label = f"v{facts.champion.version}"
    if not sha or sha == "unknown":
        return FAIL, f"the run of {label} names no commit; train from a Git checkout, or set GIT_SHA", facts.champion.created
    if facts.commit_known is None:
        return (
            UNKNOWN,
            f"{label} was trained from {sha[:12]}; {settings.folder} is no repository to look it up in",
            facts.champion.created,
        )
    if not facts.commit_known:
        return FAIL, f"{label} was trained from {sha[:12]}, which the repository does not have; push it", facts.champion.created
    return PASS, f"{label} was trained from commit {sha[:12]}, which the repository has", facts.champion.created


def _gates(facts: Facts, settings: Settings) -> Finding:
    del settings
    found = facts.evidence
    if found is None:
        return FAIL, facts.evidence_trouble, None
    verdicts = {r["gate"]: r["verdict"] for r in found.body["results"]}
    lacking = [g for g in GATES if verdicts.get(g) not in ("pass", "skip")]
    if found.verdict is not Verdict.PASS or lacking:
        why = f"gates {', '.join(lacking)} are not green" if lacking else f"evidence {found.id} says {found.verdict}"
        return FAIL, why, found.created
    judged, trained = str(found.body["git"].get("sha") or ""), facts.code.get("git_sha", "")
    if judged and trained and trained not in {"unknown", judged}:
        return (
            FAIL,
            f"judged at commit {judged[:12]}, trained from {trained[:12]}; run the gates on the deployed commit",
            found.created,
        )
    return PASS, f"evidence {found.id}: all five gates green or not applicable", found.created


def _endpoint(facts: Facts, settings: Settings) -> Finding:
    if not facts.endpoints:
        return FAIL, "no endpoint of this model is known; mlgates endpoint serve, or name it in [readiness] endpoint", None
    healthy = [e for e in facts.endpoints if not e.trouble]
    if not healthy:
        return FAIL, "; ".join(e.trouble for e in facts.endpoints), facts.now
    few = [e for e in healthy if e.instances is not None and e.instances < 2]
    if few:
        return FAIL, f"{few[0].uri} has {few[0].instances} instance; its restart is a gap: use 2 or more", facts.now
    if facts.load is None:
        return FAIL, "no load test is stored with the version that serves; mlgates loadtest --uri URI --store", facts.now
    slo = settings.model(facts.name).gates.latency.p99_max_ms
    p99, errors = facts.load.get("p99_ms"), facts.load.get("errors")
    if facts.load.get("verdict") != "pass" or p99 is None or p99 >= slo or errors:
        return FAIL, f"load test {facts.load['path']}: p99 {p99} ms, {errors} errors, {facts.load.get('verdict')}", facts.now
    if any(e.instances is None for e in healthy):
        return UNKNOWN, f"{healthy[0].uri} is healthy; how many instances it has cannot be seen from here", facts.now
    return PASS, f"{healthy[0].uri} is healthy, {healthy[0].instances} instances; load test p99 {p99:.1f} ms", facts.now


def _batch(facts: Facts, settings: Settings) -> Finding:
    runs = [(r["recorded_at"], r["status"] == "ok") for r in facts.runs if r["surface"] == "batch"]
    return _scheduled(runs, facts.now, settings, "batch scoring", "python pipelines/batch_score.py --model NAME, nightly")


def _scheduled(runs: Sequence[tuple[dt.datetime, bool]], now: dt.datetime, settings: Settings, what: str, how: str) -> Finding:
    """Whether the last runs ended well and the newest is of the last day: a schedule is known by what it did."""
    want = settings.readiness.runs
    newest = runs[-1][0] if runs else None
    if len(runs) < want:
        return FAIL, f"{len(runs)} of {want} {what} runs are on record; {how}", newest
    bad = [at for at, ok in runs[-want:] if not ok]
    if bad:
        return FAIL, f"{len(bad)} of the last {want} {what} runs failed, the last at {bad[-1]:%Y-%m-%d %H:%M}", newest
    age = (now - runs[-1][0]).total_seconds() / 3600
    if age > settings.readiness.max_hours:
        return (
            FAIL,
            f"the newest {what} run is {age:.0f} h old, {settings.readiness.max_hours:g} h allowed; is it scheduled?",
            newest,
        )
    return PASS, f"the last {want} {what} runs ended well", newest


def _drift(facts: Facts, settings: Settings) -> Finding:
    runs = [(r["recorded_at"], r["status"] == "ok") for r in facts.runs if r["surface"] == "drift"]
    verdict, why, date = _scheduled(runs, facts.now, settings, "drift", "mlgates drift --model NAME, daily")
    unresolved = [t for t in facts.triggers if t["status"] in ("open", "needs-approval") and not _answered(facts, t)]
    if unresolved:
        told = f"{len(unresolved)} retrain triggers are unresolved, the newest: {unresolved[-1]['reasons']}"
        return FAIL, told if verdict == PASS else f"{why}; {told}", date
    return verdict, why, date


def _answered(facts: Facts, trigger: Mapping[str, Any]) -> bool:
    """Whether a version was made after a trigger: the retrain that it asked for."""
    return any(v.created is not None and v.created > trigger["triggered_at"] for v in facts.versions)


def _channels(facts: Facts, settings: Settings) -> Finding:
    rules = [r for r in settings.alerts.rules if r.enabled and _concerns(r.model, facts.name)]
    groups = [settings.alerts.groups[r.group] for r in rules if r.group in settings.alerts.groups]
    channels = {c.label: c.kind for g in groups for c in g.channels}
    lacking = [kind for kind in _KINDS if kind not in channels.values()]
    if lacking:
        return FAIL, f"no {', no '.join(lacking)} channel in the alert groups of this model", None
    last: dict[str, tuple[dt.datetime, str]] = {}
    for row in facts.alerts:
        if row["event"] in ("delivered", "failed", "dead") and row["channel"] in channels:
            last[row["channel"]] = (row["event_time"], row["event"])
    silent = sorted(set(channels) - set(last))
    if silent:
        return UNKNOWN, f"nothing was ever delivered through {', '.join(silent)}; mlgates alerts test", None
    date = min(at for at, _ in last.values())
    broken = sorted(name for name, (_, event) in last.items() if event != "delivered")
    if broken:
        return FAIL, f"the last delivery through {', '.join(broken)} failed", date
    return PASS, f"delivered through {', '.join(sorted(last))}", date


def _concerns(pattern: str, name: str) -> bool:
    import fnmatch

    return fnmatch.fnmatchcase(name, pattern)


def _loop(facts: Facts, settings: Settings) -> Finding:
    """An alert that made a version: its id is on the version, its row in the alert table."""
    fired = {row["alert_id"]: row["event_time"] for row in facts.alerts if row["event"] == "fired"}
    closed = [
        (fired[v.tags["alert_id"]], v)
        for v in facts.versions
        if v.tags.get("alert_id") in fired and v.tags.get("mlgates.verdict") == "pass"
    ]
    if not closed:
        return FAIL, "no alert has ever led to a version that passed its gates; pytest --mlgates-loop --model-name NAME", None
    at, version = max(closed, key=lambda pair: pair[0])
    age = (facts.now - at).total_seconds() / 86_400
    if age > settings.readiness.loop_days:
        return (
            FAIL,
            f"the loop was last closed {age:.0f} days ago (v{version.version}), {settings.readiness.loop_days:g} allowed",
            at,
        )
    return PASS, f"alert {version.tags['alert_id']} led to v{version.version}, which passed its gates", at


def _audit(facts: Facts, settings: Settings) -> Finding:
    date = facts.audit[-1].event_time if facts.audit else None
    if facts.audit_trouble:
        return FAIL, facts.audit_trouble, date
    if not facts.guarded:
        return FAIL, "the audit table is not append-only any more; set delta.appendOnly = true", date
    kept = "7 years" if _regulated(settings, facts.name) else "1 year"
    return PASS, f"{len(facts.audit)} rows, chain and anchors hold, append-only; rows stay at least {kept}", date


def _regulated(settings: Settings, name: str) -> bool:
    try:
        return settings.model(name).regulated
    except ConfigError:
        return True


def _cost(facts: Facts, settings: Settings) -> Finding:
    recent = [r for r in facts.runs if (facts.now - r["recorded_at"]).total_seconds() <= _COST_DAYS * 86_400]
    seen = {r["surface"] for r in recent}
    lacking = [s for s in _SURFACES if s not in seen]
    newest = recent[-1]["recorded_at"] if recent else None
    if lacking:
        return FAIL, f"no cost of the last {_COST_DAYS} days for {', '.join(lacking)}", newest
    bare = [r for r in recent if r["surface"] != "storage" and not (r["cost_center"] or settings.cost.center(r["model"]))]
    if bare:
        told = f"{len(bare)} runs have no cost centre ({bare[-1]['surface']}); set COST_CENTER or [cost] centers"
        return FAIL, told, newest
    return PASS, f"{len(recent)} runs of the last {_COST_DAYS} days, all tagged", newest


def _runbook(facts: Facts, settings: Settings) -> Finding:
    del facts
    return _document(settings, settings.readiness.runbook, "runbook", ("drift",))


def _postmortem(facts: Facts, settings: Settings) -> Finding:
    del facts
    return _document(settings, settings.readiness.postmortem, "postmortem", ())


def _document(settings: Settings, place: str, key: str, words: Iterable[str]) -> Finding:
    if not place:
        return FAIL, f"[readiness] {key} names none", None
    if "://" in place:
        return UNKNOWN, f"{place} is not looked at from here; keep a copy in the repository", None
    path = settings.folder / place
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        return FAIL, f"{place} cannot be read: {error.strerror}", None
    date = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
    lacking = [w for w in words if w not in text.lower()]
    if not text.strip() or lacking:
        return FAIL, f"{place} " + (f"does not mention {', '.join(lacking)}" if text.strip() else "is empty"), date
    return PASS, f"{place}, {len(text.splitlines())} lines", date


_ITEMS: tuple[tuple[str, Callable[[Facts, Settings], Finding]], ...] = (
    ("model in Production, earlier versions kept for rollback", _production),
    ("source under Git, deployed commit known", _source),
    ("all five gates green on the deployed commit", _gates),
    ("endpoint with 2 or more instances, load test under the objective", _endpoint),
    ("batch scoring scheduled, last 7 runs good", _batch),
    ("drift detection scheduled, last 7 runs good, no unresolved trigger", _drift),
    ("alerts reach mail, Teams and the retraining", _channels),
    ("retraining loop tested within 30 days", _loop),
    ("promotion audit whole and kept", _audit),
    ("cost recorded with cost centre and model", _cost),
    ("on-call runbook", _runbook),
    ("postmortem template", _postmortem),
)


def markdown(name: str, items: Sequence[Item], cell: Callable[[str], str]) -> str:
    """Return the items as a table for a wiki; ``cell`` makes text safe inside it."""
    marks = {PASS: "✅", FAIL: "❌", UNKNOWN: "❔"}
    lines = [f"### Readiness of {cell(name)}", "", "| | item | verdict | evidence | date |", "|-|-|-|-|-|"]
    lines += [
        f"| {i.number} | {cell(i.title)} | {marks[i.verdict]} {i.verdict.upper()} | {cell(i.evidence)} | {i.date or '–'} |"
        for i in items
    ]
    return "\n".join(lines) + "\n"
