"""May this version make this move? Evidence and context in, every reason against it out; pure."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.errors import EvidenceInvalid
from pytest_mlgates.promotion.machine import Move
from pytest_mlgates.results import Verdict

if TYPE_CHECKING:
    from pytest_mlgates.evidence import Evidence

CLOCK_SLACK = dt.timedelta(minutes=5)
"""How far in the future evidence may lie: clocks of two machines differ."""
NEVER_SKIPPED = frozenset({"performance", "latency"})
"""Gates that apply to every model: one that says SKIP was made to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """One reason against a move.

    ``code`` is stable: ``evidence``, ``artifact``, ``data``, ``settings``, ``age``, ``gates``, ``contest``, ``approval``,
    ``history``. ``integrity`` marks what no reason and no approver can waive.
    """

    code: str
    message: str
    integrity: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Contest:
    """How champion/challenger stands; ``summary`` says it in one line, with what is missing."""

    agrees: bool
    summary: str


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """Everything that the decision rests on, read just before it.

    Attributes
    ----------
    name, version
        The version that asks.
    move
        What it asks for.
    to_stage
        Where it wants to go.
    artifact_digest, artifact_files
        Digest of the logged model as it is now, and of each of its files, to name the one that changed.
    holdout
        What the settings name as the holdout.
    holdout_digest
        Digest of the rows that the evidence names, as they are now; ``None`` where they cannot be read, empty where files
        of the table are not as they were (``holdout_problem`` says why, or which).
    settings_digests
        Digests that may promote to this stage.
    required
        Gates that the settings demand.
    settings_place
        Where the settings in force stand, for the message.
    regulated
        Whether the fairness gate must have been judged.
    warn_inconclusive
        Whether the settings let an inconclusive gate through.
    max_age
        Age after which evidence no longer promotes.
    now
        Aware.
    contest
        Champion/challenger, ``None`` where the move does not ask for it.
    hotfix, approver, reason
        As given by whoever asks.
    was_production
        Whether the audit knows this version as Production.
    """

    name: str
    version: str
    move: Move
    to_stage: str
    artifact_digest: str
    holdout: str
    holdout_digest: str | None
    settings_digests: tuple[str, ...]
    required: tuple[str, ...]
    regulated: bool
    warn_inconclusive: bool
    max_age: dt.timedelta
    now: dt.datetime
    artifact_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    holdout_problem: str = ""
    settings_place: str = ""
    contest: Contest | None = None
    hotfix: bool = False
    approver: str = ""
    reason: str = ""
    was_production: bool = False


def refusals(evidence: Evidence | EvidenceInvalid | None, context: Context) -> list[Refusal]:
    """Return every reason against the move; an empty list lets it happen.

    Parameters
    ----------
    evidence
        The version's evidence; the error where it does not hold; ``None`` where there is none.
    context
        See `Context`.
    """
    found: list[Refusal] = []
    if not context.reason.strip() and not context.move.was_production:
        found.append(Refusal("approval", "no reason is given; say why with --reason", integrity=True))
    if context.hotfix and not context.approver.strip():
        found.append(Refusal("approval", "a hotfix needs an approver; name one with --approver", integrity=True))
    if context.move.was_production and not context.was_production:
        message = "it has never been Production, so there is nothing to roll back to; take it to Staging first"
        found.append(Refusal("history", message, integrity=True))
    if context.move.gates:
        found += _of_evidence(evidence, context)
    if context.move.contest and not context.hotfix:
        found += _of_contest(context.contest)
    if found and context.move.was_production and not context.reason.strip():
        found.append(Refusal("approval", "only a reason lets it through all the same; say why with --reason", integrity=True))
    return found


def waivable(found: list[Refusal], move: Move) -> bool:
    """Whether a rollback may go ahead all the same: only where nothing that was altered stands against it."""
    return move.was_production and not any(refusal.integrity for refusal in found)


def _of_contest(contest: Contest | None) -> list[Refusal]:
    if contest is not None and contest.agrees:
        return []
    why = contest.summary if contest is not None else "champion/challenger has not been run"
    return [Refusal("contest", f"{why}; let the race decide, or use --hotfix --approver WHO")]


def _of_evidence(evidence: Evidence | EvidenceInvalid | None, context: Context) -> list[Refusal]:
    again = f"run: pytest --model-name {context.name} --model-version {context.version}"
    if evidence is None:
        return [Refusal("evidence", f"it has no evidence; {again}")]
    if isinstance(evidence, EvidenceInvalid):
        return [Refusal("evidence", str(evidence), integrity=True)]
    found = _of_identity(evidence, context, again)
    found += _of_settings(evidence, context, again)
    found += _of_age(evidence, context, again)
    found += _of_gates(evidence, context, again)
    return found


def _of_identity(evidence: Evidence, context: Context, again: str) -> list[Refusal]:
    found = []
    named = (str(evidence.model["name"]), str(evidence.model["version"]))
    if named != (context.name, context.version):
        found.append(Refusal("evidence", f"its evidence is of {named[0]} v{named[1]}; {again}", integrity=True))
    if evidence.model.get("artifact_digest") != context.artifact_digest:
        message = (
            f"its model files have changed since the gates ran{_changed(evidence, context)}: evidence {evidence.id} is of "
            f"{_short(evidence.model.get('artifact_digest'))}, they are {_short(context.artifact_digest)}; {again}"
        )
        found.append(Refusal("artifact", message, integrity=True))
    data = evidence.body["holdout"]
    if data.get("table") != context.holdout:
        message = f"it was judged on {data.get('table')}, the settings name {context.holdout}; {again}"
        found.append(Refusal("data", message))
    elif context.holdout_digest is None:
        message = f"the holdout rows that it was judged on cannot be read: {context.holdout_problem}; {again}"
        found.append(Refusal("data", message, integrity=True))
    elif data.get("digest") != context.holdout_digest:
        at = "" if data.get("version") is None else f"@{data['version']}"
        how = f"evidence {evidence.id} is of {_short(data.get('digest'))}, it is {_short(context.holdout_digest)}"
        if context.holdout_problem:
            how = f"{context.holdout_problem} is altered or gone"
        message = f"the holdout {data.get('table')}{at} has changed since the gates ran: {how}; restore it, or {again}"
        found.append(Refusal("data", message, integrity=True))
    return found


def _changed(evidence: Evidence, context: Context) -> str:
    """Which files of the model are not as they were; empty for evidence that does not list them."""
    before, now = evidence.model.get("files"), context.artifact_files
    if not isinstance(before, Mapping):
        return ""
    said = [f"{path} {'altered' if path in now else 'gone'}" for path in before if now.get(path) != before[path]]
    said += [f"{path} added" for path in now if path not in before]
    return f" ({', '.join(said[:5])}{', …' if len(said) > 5 else ''})" if said else ""


def _of_settings(evidence: Evidence, context: Context, again: str) -> list[Refusal]:
    if evidence.settings_digest in context.settings_digests:
        return []
    allowed = " or ".join(_short(digest) for digest in context.settings_digests) or "none"
    place = f" ({context.settings_place})" if context.settings_place else ""
    message = (
        f"it was judged by settings {_short(evidence.settings_digest)}, to {context.to_stage} may go {allowed}{place}; "
        f"{again} by the settings in force"
    )
    return [Refusal("settings", message)]


def _of_age(evidence: Evidence, context: Context, again: str) -> list[Refusal]:
    age = context.now - evidence.created
    if age > context.max_age:
        return [Refusal("age", f"its evidence is {_days(age)} old, {_days(context.max_age)} are allowed; {again}")]
    if age < -CLOCK_SLACK:
        message = (
            f"its evidence is from {evidence.created.isoformat()}, that is {_days(-age)} ahead of this machine's clock "
            f"({context.now.isoformat()}); set the clock right, or {again}"
        )
        return [Refusal("age", message)]
    return []


def _of_gates(evidence: Evidence, context: Context, again: str) -> list[Refusal]:
    required = tuple(dict.fromkeys([*context.required, *evidence.body["required"]]))
    report = evidence.report(required, warn_inconclusive=context.warn_inconclusive)
    found = []
    if report.missing:
        found.append(Refusal("gates", f"required gates did not report: {', '.join(report.missing)}; {again}"))
    for result in report.results:
        let_through = result.verdict is Verdict.INCONCLUSIVE and context.warn_inconclusive
        if result.verdict.blocks and not let_through:
            hint = f" ({result.hint})" if result.hint else ""
            found.append(Refusal("gates", f"gate {result.gate}: {result.verdict.value}{hint}"))
        if result.gate in NEVER_SKIPPED and result.verdict is Verdict.SKIP:
            found.append(Refusal("gates", f"gate {result.gate} was skipped, which no model may; {again}"))
        if result.gate == "fairness" and context.regulated and result.verdict is Verdict.SKIP:
            found.append(Refusal("gates", f"gate fairness was skipped and the model is regulated; {again}"))
    if not found and report.verdict is not Verdict.PASS:
        found.append(Refusal("gates", f"its verdict is {report.verdict.value}, not pass; {again}"))
    return found


def _short(digest: object) -> str:
    return str(digest)[:19] + "…"


def _days(span: dt.timedelta) -> str:
    days = span.total_seconds() / 86400
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"
