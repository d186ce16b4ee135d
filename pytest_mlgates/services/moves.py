"""Making one move of one version under a lease, and settling a move that a crash left half done."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.errors import MlgatesError, RegistryUnavailable, WriteConflict
from pytest_mlgates.evidence import canonical_bytes, sha256
from pytest_mlgates.ports import AuditEvent
from pytest_mlgates.promotion.machine import ARCHIVED, NONE, PRODUCTION, STAGING
from pytest_mlgates.services.crash import crash_point
from pytest_mlgates.services.lease import LEASE_S, WAIT_S, Lease, acquire, open_intent
from pytest_mlgates.services.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_mlgates.ports import AuditRow, AuditTrail, ModelRegistry

HEAD_TAG = "mlgates.audit_head"
_DECIDING = frozenset({"committed", "observed"})


@dataclasses.dataclass(frozen=True)
class Desk:
    """What every move works on.

    Attributes
    ----------
    registry, audit
        The two systems that must agree.
    stage_mode
        ``stage`` or ``alias``.
    now
        Clock for the age of evidence.
    lease_s, wait_s
        See `lease.settle`.
    """

    registry: ModelRegistry
    audit: AuditTrail
    stage_mode: str = "stage"
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    sleep: Callable[[float], None] = time.sleep
    lease_s: float = LEASE_S
    wait_s: float = WAIT_S

    def stages(self, name: str) -> Stages:
        """Stages and aliases of a model."""
        return Stages(self.registry, name, self.stage_mode)


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A move that was made; ``displaced`` are the versions that left a stage by it."""

    version: str
    from_stage: str
    to_stage: str
    displaced: tuple[str, ...]
    seq: int
    fence: int


class NotMoved(Exception):
    """A signal to the caller: the registry is not where the intent started from, and nothing was changed."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        super().__init__(stage)


def intent_id(model: str, version: str, from_stage: str, to_stage: str, evidence_id: str) -> str:
    """Return the identity of a move: equal for a second try of the same."""
    return sha256(canonical_bytes([model, version, from_stage, to_stage, evidence_id]))


def projected(rows: Sequence[AuditRow]) -> dict[str, str]:
    """Return ``{version: stage}`` as the audit has it; a version that it does not name is in None."""
    found: dict[str, str] = {}
    for row in rows:
        if row.event.state in _DECIDING:
            found[row.event.version] = row.event.to_stage
    return found


def last_staged(rows: Sequence[AuditRow]) -> str:
    """Return the version that came to Staging last, by the audit; empty for none."""
    staged = [r.event.version for r in rows if r.event.state in _DECIDING and r.event.to_stage == STAGING]
    return staged[-1] if staged else ""


def make_move(desk: Desk, event: AuditEvent, *, archives_others: bool) -> Done:
    """Intent, move, aliases, closing rows, anchor.

    Parameters
    ----------
    event
        The move with its reason; ``state`` is filled in. A move whose two stages are the same puts the aliases right.

    Raises
    ------
    NotMoved
        Under the lease the version turned out not to be in ``from_stage``; the intent is closed as aborted.
    WriteConflict
        Another process kept or took the lease.
    RegistryUnavailable, LakehouseError
        One of the two systems failed; what is left open is settled by the next `reconcile`.
    """
    event = dataclasses.replace(
        event,
        state="intent",
        intent_id=intent_id(event.model_name, event.version, event.from_stage, event.to_stage, event.evidence_id),
    )
    what = f"{event.model_name} v{event.version}: {event.from_stage} -> {event.to_stage}"
    crash_point("before-intent")
    lease = acquire(
        desk.audit,
        event,
        recover=lambda found: recover(desk, found),
        lease_s=desk.lease_s,
        wait_s=desk.wait_s,
        sleep=desk.sleep,
    )
    crash_point("after-intent")
    try:
        done = _under_lease(desk, lease, archives_others=archives_others)
    except RegistryUnavailable as error:
        if _abort_if_unmoved(desk, lease, error):
            raise RegistryUnavailable(f"{what} was not made, nothing has moved: {error}; try again") from error
        raise RegistryUnavailable(f"{what} broke off, perhaps half done: {error}; {_settle(event)}") from error
    finally:
        lease.release()
    crash_point("before-anchor")
    try:
        anchor_head(desk, event.model_name)
    except RegistryUnavailable as error:
        made = f"{what} is made (audit row {done.seq}), but the registry could not be told the audit's new head"
        raise RegistryUnavailable(f"{made}: {error}; {_settle(event)}") from error
    crash_point("after-anchor")
    return done


def recover(desk: Desk, lease: Lease) -> None:
    """Settle a dead holder's intent: closed as committed when the registry has moved, as aborted when it has not."""
    event = lease.event
    stages = desk.stages(event.model_name)
    now = stages.read()
    crash_point("recover-taken")
    try:
        if event.from_stage != event.to_stage and now.get(event.version, NONE) == event.to_stage:
            lease.check()
            stages.align(event.version if event.to_stage == STAGING else "")
            crash_point("recover-aligned")
            before = projected(desk.audit.rows(event.model_name))
            lease.close(_closing(event, before, stages.read(), "settled after a crash: the registry had moved; "))
        else:
            stage = now.get(event.version, "gone")
            aborted = f"settled after a crash: the registry is at {stage}, nothing had moved; {event.rationale}"
            lease.close([dataclasses.replace(event, state="aborted", holder="", rationale=aborted)])
        crash_point("recover-closed")
    finally:
        lease.release()


def anchor_head(desk: Desk, name: str) -> None:
    """Keep the chain's head outside the table, as a tag of the registered model; never move it back."""
    from json import loads

    seq, head_hash = desk.audit.head()
    if seq == 0:
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if int(loads(desk.registry.model_tags(name)[HEAD_TAG])["seq"]) >= seq:
            return
    desk.registry.set_model_tag(name, HEAD_TAG, canonical_bytes({"hash": head_hash, "seq": seq}).decode())


def check_anchor(desk: Desk, name: str) -> None:
    """Compare the audit with what the registered model remembers of it. Raises AuditBroken where it does not fit."""
    remembered = desk.registry.model_tags(name).get(HEAD_TAG)  # read before the table, which only grows
    if remembered:
        desk.audit.check_anchor(f"the tag {HEAD_TAG} of {name}", remembered)


def anchors(registry: ModelRegistry) -> dict[str, str]:
    """What the registered models remember of the chain: where each anchor was found, and its text."""
    return {f"the tag of {n}": t for n in registry.names() if (t := registry.model_tags(n).get(HEAD_TAG))}


def _under_lease(desk: Desk, lease: Lease, *, archives_others: bool) -> Done:
    event = lease.event
    stages = desk.stages(event.model_name)
    before = stages.read()
    crash_point("lease-held")
    if before.get(event.version, "gone") != event.from_stage:
        stage = before.get(event.version, "gone")
        aborted = f"nothing was moved: the registry has it in {stage}, not in {event.from_stage}; {event.rationale}"
        lease.close([dataclasses.replace(event, state="aborted", holder="", rationale=aborted)])
        raise NotMoved(stage)
    lease.check()
    crash_point("before-stage")
    if event.from_stage != event.to_stage:
        stages.move(event.version, event.to_stage, archives_others=archives_others)
    crash_point("after-stage")
    lease.check()
    crash_point("before-aliases")
    stages.align(event.version if event.to_stage == STAGING else last_staged(desk.audit.rows(event.model_name)))
    crash_point("after-aliases")
    after = stages.read()
    _assert_one_production(event, after)
    events = _closing(event, before, after, "")
    crash_point("before-committed")
    rows = lease.close(events)
    crash_point("after-committed")
    displaced = tuple(e.version for e in events[1:])
    return Done(event.version, event.from_stage, event.to_stage, displaced, rows[0].seq, lease.row.seq)


def _assert_one_production(event: AuditEvent, after: Mapping[str, str]) -> None:
    inside = [version for version, stage in after.items() if stage == PRODUCTION]
    if len(inside) > 1 and event.to_stage == PRODUCTION:
        raise WriteConflict(
            f"{event.model_name} has {len(inside)} Production versions (v{', v'.join(inside)}): somebody moved one from outside "
            f"at the same time; run: mlgates reconcile {event.model_name}"
        )


def _closing(event: AuditEvent, before: Mapping[str, str], after: Mapping[str, str], prefix: str) -> list[AuditEvent]:
    """The closing rows: the move itself, then one for each version that left a stage by it."""
    rows = [dataclasses.replace(event, state="committed", holder="", rationale=prefix + event.rationale)]
    for version, stage in after.items():
        was = before.get(version, NONE)
        left = was == event.to_stage and stage != was and stage in (ARCHIVED, NONE)
        if version != event.version and left:
            why = f"{prefix}made way for v{event.version}"
            rows.append(
                dataclasses.replace(
                    event,
                    version=version,
                    from_stage=was,
                    to_stage=stage,
                    state="committed",
                    holder="",
                    rationale=why,
                    evidence_id="",
                )
            )
    return rows


def _settle(event: AuditEvent) -> str:
    return f"when the registry answers again, run: mlgates reconcile {event.model_name}"


def _abort_if_unmoved(desk: Desk, lease: Lease, error: MlgatesError) -> bool:
    """After a failed call to the registry: close the intent when it can be told that nothing moved; else leave it open."""
    event = lease.event
    current = open_intent(desk.audit.rows(event.model_name))
    if current is None or current.seq != lease.row.seq or event.from_stage == event.to_stage:
        return False
    with contextlib.suppress(MlgatesError), desk.registry.impatient():  # most likely it is still down
        if desk.stages(event.model_name).read().get(event.version) == event.from_stage:
            why = f"the registry failed ({error}), nothing was moved; {event.rationale}"
            lease.close([dataclasses.replace(event, state="aborted", holder="", rationale=why)])
            return True
    return False
