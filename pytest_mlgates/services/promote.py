"""Moving a version between stages, on evidence, so that a crash at any point loses nothing.

One promotion is: reconcile; read the evidence and everything that it speaks of; decide (`promotion.policy`); append an
``intent`` (`services.lease`); move the registry; append ``committed``; anchor the chain's head (`services.moves`). A refusal
is a row too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_mlgates import filedigests
from pytest_mlgates.errors import EvidenceInvalid, MlgatesError, PromotionRefused
from pytest_mlgates.evidence import Evidence
from pytest_mlgates.ports import AuditEvent
from pytest_mlgates.promotion import policy
from pytest_mlgates.promotion.machine import ARCHIVED, PRODUCTION, STAGING, Move, move_between, stage_named, why_illegal
from pytest_mlgates.rows import table_digest
from pytest_mlgates.services import evidence_store
from pytest_mlgates.services.challenge import contest_for
from pytest_mlgates.services.crash import crash_point
from pytest_mlgates.services.evaluate import load_holdout
from pytest_mlgates.services.lease import LEASE_S, WAIT_S
from pytest_mlgates.services.moves import Desk, NotMoved, anchor_head, make_move
from pytest_mlgates.services.reconcile import Reconciliation, bring_together, reconcile

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import AuditTrail, ModelRegistry, ModelVersion

__all__ = ["Promotion", "check_evidence", "promote", "reconcile", "rollback"]

_MOVE_TRIES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Promotion:
    """A move that was made.

    Attributes
    ----------
    archived
        Versions that made way.
    evidence_id
        The evidence that it rests on; empty for a move that needs none.
    seq
        The audit row that commits it.
    already
        Nothing had to be moved: a crash had come after the move and before its record, which has now been made.
    waived
        What stood against a rollback that a reason let through.
    found
        What the reconciliation before it found.
    """

    name: str
    version: str
    from_stage: str
    to_stage: str
    archived: tuple[str, ...]
    evidence_id: str
    seq: int
    found: Reconciliation
    already: bool = False
    waived: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Request:
    name: str
    version: str
    to_stage: str
    actor: str
    reason: str
    git_sha: str
    hotfix: bool
    approver: str


def promote(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    name: str,
    version: str,
    to_stage: str,
    *,
    actor: str,
    reason: str,
    git_sha: str,
    hotfix: bool = False,
    approver: str | None = None,
    now: Callable[[], dt.datetime] | None = None,
    lease_s: float = LEASE_S,
    wait_s: float = WAIT_S,
) -> Promotion:
    """Move one version to a stage.

    Parameters
    ----------
    name, version, to_stage
        What moves where; the stage in any capitals.
    actor, reason, git_sha
        Who, why and from which commit: written to the audit.
    hotfix, approver
        Waive champion/challenger (never the gates); the approver is written to the audit.
    now
        Clock for the age of evidence.
    lease_s, wait_s
        See `lease.settle`.

    Raises
    ------
    PromotionRefused
        With every reason in ``reasons``; the stage is unchanged and the refusal is in the audit.
    ModelNotFound, ConfigError
        No such model, version or settings table.
    WriteConflict, RegistryUnavailable, LakehouseError
        See `moves.make_move`.
    """
    asked = _Request(name, str(version), stage_named(to_stage), actor, reason, git_sha, hotfix, (approver or "").strip())
    settings.model(name)
    registry.get(name, asked.version)
    crash_point("promote-start")
    desk = _desk(registry, audit, settings, now, lease_s, wait_s)
    found = bring_together(desk, name)
    crash_point("reconciled")
    for _ in range(_MOVE_TRIES):
        current = registry.get(name, asked.version)
        from_stage = desk.stages(name).of(current)
        if from_stage == asked.to_stage and _just_settled(found, asked):
            seq, _head = audit.head()
            return Promotion(name, asked.version, from_stage, from_stage, (), "", seq, found, already=True)
        move, evidence, waived = _decide(desk, settings, asked, current, from_stage)
        crash_point("checked")
        event = _event(asked, from_stage, evidence, waived)
        try:
            done = make_move(desk, event, archives_others=move.archives_others)
        except NotMoved:  # somebody moved this version while we looked: look again
            continue
        return Promotion(
            name, asked.version, from_stage, asked.to_stage, done.displaced, event.evidence_id, done.seq, found, waived=waived
        )
    raise PromotionRefused(f"{name} v{asked.version} kept being moved by others while it was looked at; try again later")


def rollback(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    name: str,
    *,
    actor: str,
    reason: str,
    git_sha: str,
    now: Callable[[], dt.datetime] | None = None,
    lease_s: float = LEASE_S,
    wait_s: float = WAIT_S,
) -> Promotion:
    """Return to the version that was Production before the present one.

    Its evidence may be out of date or absent when a reason is given; nothing that was altered is let through. The reason may be
    empty where the evidence still holds.

    Raises
    ------
    PromotionRefused
        There is no such version, or its model, data or evidence were altered.
    """
    desk = _desk(registry, audit, settings, now, lease_s, wait_s)
    bring_together(desk, name)
    stages = desk.stages(name).read()
    present = next((v for v, stage in stages.items() if stage == PRODUCTION), None)
    was = [
        row.event.version
        for row in audit.rows(name)
        if row.event.state in {"committed", "observed"} and row.event.to_stage == PRODUCTION
    ]
    before = next((v for v in reversed(was) if v != present and stages.get(v) == ARCHIVED), None)
    if before is None:
        message = f"{name} has no archived version that was Production before; promote a version from Staging instead"
        asked = _Request(name, present or "", PRODUCTION, actor, reason, git_sha, hotfix=False, approver="")
        _refuse(desk, asked, stages.get(present or "", "None"), [policy.Refusal("history", message)], "")
    assert before is not None
    return promote(
        registry, audit, settings, name, before, PRODUCTION,
        actor=actor, reason=reason, git_sha=git_sha, now=now, lease_s=lease_s, wait_s=wait_s,
    )  # fmt: skip


def check_evidence(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    name: str,
    version: str,
    *,
    now: Callable[[], dt.datetime] | None = None,
) -> tuple[str, list[str]]:
    """Return the id of a version's evidence and everything that would keep it from carrying a promotion to Staging.

    Reads only: nothing is written to the audit.

    Raises
    ------
    EvidenceInvalid
        There is no evidence, or it was altered.
    """
    desk = _desk(registry, audit, settings, now, LEASE_S, WAIT_S)
    found = registry.get(name, str(version))
    evidence = evidence_store.latest(registry, found)
    asked = _Request(name, found.version, STAGING, "", "a check", "", hotfix=False, approver="")
    context = _context(desk, settings, asked, found, Move("check", gates=True), evidence)
    return evidence.id, [refusal.message for refusal in policy.refusals(evidence, context)]


def _desk(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    now: Callable[[], dt.datetime] | None,
    lease_s: float,
    wait_s: float,
) -> Desk:
    clock = now or (lambda: dt.datetime.now(dt.UTC))
    return Desk(registry, audit, settings.policy.stage_mode, clock, lease_s=lease_s, wait_s=wait_s)


def _decide(
    desk: Desk, settings: Settings, asked: _Request, version: ModelVersion, from_stage: str
) -> tuple[Move, Evidence | None, tuple[str, ...]]:
    """Return the move, its evidence and what was waived; a refusal is recorded and raised."""
    move = move_between(from_stage, asked.to_stage)
    if move is None:
        reason = policy.Refusal("move", why_illegal(from_stage, asked.to_stage))
        return _refuse(desk, asked, from_stage, [reason], "")
    evidence: Evidence | EvidenceInvalid | None = None
    if move.gates:
        try:
            evidence = evidence_store.find(desk.registry, version)
        except EvidenceInvalid as error:
            evidence = error
    context = _context(desk, settings, asked, version, move, evidence)
    against = policy.refusals(evidence, context)
    document = evidence if isinstance(evidence, Evidence) else None
    if not against:
        return move, document, ()
    if policy.waivable(against, move):
        return move, document, tuple(f"{r.code}: {r.message}" for r in against)
    return _refuse(desk, asked, from_stage, against, document.id if document else "")


def _context(
    desk: Desk, settings: Settings, asked: _Request, version: ModelVersion, move: Move, evidence: object
) -> policy.Context:
    model = settings.model(asked.name)
    digest, problem = (None, "")
    if isinstance(evidence, Evidence):
        digest, problem = _holdout_now(desk, settings, asked.name, evidence)
    contest = None
    if move.contest and not asked.hotfix:
        contest = contest_for(desk.registry, desk.audit.store, settings, version)
    named = settings.policy.settings_digests.get(asked.to_stage)
    was = move.was_production and any(
        row.event.version == asked.version and row.event.to_stage == PRODUCTION and row.event.state in {"committed", "observed"}
        for row in desk.audit.rows(asked.name)
    )
    artifact, files = "", {}
    if isinstance(evidence, Evidence):
        artifact = desk.registry.artifact_digest(version)
        if artifact != evidence.model.get("artifact_digest"):
            files = desk.registry.artifact_files(version)
    return policy.Context(
        name=asked.name,
        version=asked.version,
        move=move,
        to_stage=asked.to_stage,
        artifact_digest=artifact,
        artifact_files=files,
        holdout=model.holdout,
        holdout_digest=digest,
        holdout_problem=problem,
        settings_place=str(settings.path or ""),
        settings_digests=tuple(named) if named is not None else (settings.digest(asked.name),),
        required=model.required,
        regulated=model.regulated,
        warn_inconclusive=model.on_inconclusive == "warn",
        max_age=dt.timedelta(days=settings.policy.max_age_days),
        now=desk.now(),
        contest=contest,
        hotfix=asked.hotfix,
        approver=asked.approver,
        reason=asked.reason,
        was_production=was,
    )


def _holdout_now(desk: Desk, settings: Settings, name: str, evidence: Evidence) -> tuple[str | None, str]:
    """Digest of the rows that the evidence names, as they are now; ``None`` and why they cannot be read; or, empty, what is altered."""
    data = evidence.body["holdout"]
    try:
        if data.get("version") is None:
            path = settings.folder / settings.model(name).holdout
            if data.get("files") and data["files"].get(path.name) != filedigests.digest(path):
                return "", f"file {path}"
            return load_holdout(desk.audit.store, settings.model(name), settings.folder).digest, ""
        table = str(data["table"]).partition("@")[0]
        folder = desk.audit.store.folder(table)
        changed = filedigests.differing(data.get("files") or {}, folder) if folder is not None else []
        if changed:  # named before a reader stumbles over them
            return "", f"file {', '.join(changed[:3])}"
        return table_digest(desk.audit.store.read(table, version=int(data["version"])).to_pandas()), ""
    except MlgatesError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 a data file with a changed byte makes its reader raise anything
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _refuse(
    desk: Desk, asked: _Request, from_stage: str, against: list[policy.Refusal], evidence_id: str
) -> tuple[Move, Evidence | None, tuple[str, ...]]:
    reasons = [refusal.message for refusal in against]
    rationale = f"{'; '.join(f'{r.code}: {r.message}' for r in against)} (asked for: {asked.reason or 'no reason given'})"
    event = AuditEvent(
        asked.name, asked.version, from_stage, asked.to_stage, asked.actor, "refused", rationale, asked.git_sha, evidence_id
    )
    desk.audit.append(event)
    with contextlib.suppress(MlgatesError):  # the refusal stands, whether its row could be anchored or not
        anchor_head(desk, asked.name)
    raise PromotionRefused(f"{asked.name} v{asked.version} stays in {from_stage}: {'; '.join(reasons)}", reasons)


def _event(asked: _Request, from_stage: str, evidence: Evidence | None, waived: tuple[str, ...]) -> AuditEvent:
    rationale = asked.reason.strip() or "its evidence still holds"  # only a rollback may come without a reason
    if asked.hotfix:
        rationale = f"hotfix approved by {asked.approver}: {rationale}"
    if waived:
        rationale += f" (waived: {'; '.join(waived)})"
    return AuditEvent(
        asked.name,
        asked.version,
        from_stage,
        asked.to_stage,
        asked.actor,
        "",
        rationale,
        asked.git_sha,
        evidence.id if evidence else "",
    )


def _just_settled(found: Reconciliation, asked: _Request) -> bool:
    """Whether the reconciliation has just completed this very move for us: a second try after a crash is no mistake."""
    return any(s.startswith(f"v{asked.version} ") and s.endswith(f"-> {asked.to_stage}: committed") for s in found.settled)
