"""Registry and audit brought together again: crashes settled, moves made behind our back found, aliases put right."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pytest_mlgates.errors import WriteConflict
from pytest_mlgates.ports import AuditEvent
from pytest_mlgates.promotion.machine import ALIASES, ARCHIVED, NONE, PRODUCTION, STAGING
from pytest_mlgates.services.lease import Lease, settle
from pytest_mlgates.services.moves import Desk, NotMoved, anchor_head, check_anchor, last_staged, make_move, projected, recover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_mlgates.ports import AuditRow, AuditTrail, ModelRegistry

ACTOR = "mlgates reconcile"
OUTSIDE = "unknown (outside mlgates)"


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was found and done.

    Attributes
    ----------
    settled
        Moves that a crash had left half done, with how each was closed.
    alarms
        Moves and aliases that somebody changed outside of this tool.
    repaired
        What was put right: a second Production version archived, an alias moved.
    """

    name: str
    settled: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether everything was as it should be."""
        return not (self.settled or self.alarms or self.repaired)


def reconcile(registry: ModelRegistry, audit: AuditTrail, name: str, *, stage_mode: str = "stage") -> Reconciliation:
    """Bring registry and audit of one model together.

    Raises
    ------
    ModelNotFound
        No such model.
    WriteConflict
        A living process is promoting the model and does not finish.
    AuditBroken
        The audit is not the one that the registered model remembers: its tail was cut, or it was rewritten.
    RegistryUnavailable, LakehouseError
        One of the two does not answer; nothing is lost, run it again.
    """
    return bring_together(Desk(registry, audit, stage_mode), name)


def bring_together(desk: Desk, name: str) -> Reconciliation:
    """`reconcile` at a desk."""
    desk.registry.versions(name)  # a model that is not there is named before anything is written
    check_anchor(desk, name)
    settled: list[str] = []

    def settle_one(lease: Lease) -> None:
        recover(desk, lease)
        settled.append(_how(desk.audit.rows(name), lease))

    observed: list[AuditRow] = []
    while True:
        head = settle(desk.audit, name, recover=settle_one, lease_s=desk.lease_s, wait_s=desk.wait_s, sleep=desk.sleep)
        rows = desk.audit.rows(name)
        events = _differences(name, projected(rows), desk.stages(name).read(), rows)
        if not events:
            break
        try:
            # only while the head has not moved: had a promoter begun between our two looks, its move would look like a stranger's
            observed = desk.audit.append_all(events, expect_head=head)
            break
        except WriteConflict:
            continue
    alarms = [_said(row.event) for row in observed if not row.event.rationale.startswith("registered")]
    repaired = _restore_late_writes(desk, name, observed)
    repaired += _keep_one_production(desk, name)
    more_alarms, moved = _put_aliases_right(desk, name)
    anchor_head(desk, name)  # always: a promotion may have lost the registry just before it
    return Reconciliation(name, tuple(settled), tuple(alarms + more_alarms), tuple(repaired + moved))


def _differences(name: str, expected: dict[str, str], actual: dict[str, str], rows: Sequence[AuditRow]) -> list[AuditEvent]:
    """An ``observed`` event for each version that the registry has elsewhere than the audit."""
    events = []
    for version in dict.fromkeys([*actual, *expected]):
        was, now = expected.get(version, NONE), actual.get(version, "Deleted")
        if was == now:
            continue
        late = _late_write(rows, version, now)
        rationale = "moved outside of mlgates"
        if late is not None:
            rationale = f"late write of the lease of row {late.seq}, which had been taken over"
        elif not any(row.event.version == version and row.event.state in {"committed", "observed"} for row in rows):
            rationale = "found in this stage, moved outside of mlgates"
        events.append(AuditEvent(name, version, was, now, OUTSIDE, "observed", rationale))
    return events


def _late_write(rows: Sequence[AuditRow], version: str, stage: str) -> AuditRow | None:
    """The aborted intent whose holder, thought dead, made its move after all."""
    intents = {row.seq: row for row in rows if row.event.state == "intent"}
    for row in reversed(rows):
        if row.event.version != version:
            continue
        if row.event.state in {"committed", "observed"}:
            return None
        if row.event.state == "aborted" and row.event.to_stage == stage:
            intent = intents.get(row.event.fence)
            while intent is not None and intent.event.fence in intents:  # back to the one that was taken over first
                intent = intents[intent.event.fence]
            return intent
    return None


def _restore_late_writes(desk: Desk, name: str, observed: Sequence[AuditRow]) -> list[str]:
    """Undo what a fenced holder wrote: the versions that it moved go back to where the audit had them."""
    late = [row for row in observed if row.event.rationale.startswith("late write")]
    if not late:
        return []
    done = []
    back = [row.event for row in observed if row.event.to_stage != "Deleted"]
    # Production last: its move archives whatever the late write had put there
    for event in sorted(back, key=lambda e: e.from_stage == PRODUCTION):
        if desk.stages(name).read().get(event.version) == event.from_stage:
            continue
        move = AuditEvent(
            name, event.version, event.to_stage, event.from_stage, ACTOR, "", f"undoes a late write ({event.rationale})"
        )
        try:
            make_move(desk, move, archives_others=event.from_stage == PRODUCTION)
        except NotMoved:
            continue
        done.append(f"v{event.version} is in {event.from_stage} again: a late write of a lost lease had moved it")
    return done


def _keep_one_production(desk: Desk, name: str) -> list[str]:
    """Archive every Production version but one: the one that the audit committed last, else the alias's, else the newest."""
    stages = desk.stages(name)
    inside = [version for version, stage in stages.read().items() if stage == PRODUCTION]
    if len(inside) < 2:
        return []
    rows = desk.audit.rows(name)
    committed = [r.event.version for r in rows if r.event.state == "committed" and r.event.to_stage == PRODUCTION]
    holder = [v.version for v in desk.registry.versions(name) if ALIASES[PRODUCTION] in v.aliases]
    ranked = [v for v in [*reversed(committed), *holder, *sorted(inside, key=int, reverse=True)] if v in inside]
    done = []
    for version in inside:
        if version == ranked[0]:
            continue
        why = f"only one version may be Production, v{ranked[0]} stays"
        try:
            make_move(desk, AuditEvent(name, version, PRODUCTION, ARCHIVED, ACTOR, "", why), archives_others=False)
        except NotMoved:
            continue
        done.append(f"v{version} archived: {why}")
    return done


def _put_aliases_right(desk: Desk, name: str) -> tuple[list[str], list[str]]:
    """Point the aliases where the stages say; an alias that pointed elsewhere is an alarm, a missing one is not."""
    alarms, moved = [], []
    staged = last_staged(desk.audit.rows(name))
    for item in desk.stages(name).misplaced(staged):
        version = item.should or item.version
        stage = desk.stages(name).read().get(version, NONE)
        was = f"v{item.version}" if item.version else "no version"
        why = f"alias {item.alias} was at {was}, belongs to {'v' + item.should if item.should else 'none'}"
        if item.version:
            alarms.append(f"{name}: {why}")
        event = AuditEvent(name, version, stage, stage, ACTOR, "", why)
        try:
            make_move(desk, event, archives_others=False)
        except NotMoved:
            continue
        moved.append(why)
    return alarms, moved


def _how(rows: Sequence[AuditRow], lease: Lease) -> str:
    event = lease.event
    closing = next((r for r in reversed(rows) if r.event.fence == lease.row.seq and r.event.state != "intent"), None)
    state = closing.event.state if closing is not None else "open"
    return f"v{event.version} {event.from_stage} -> {event.to_stage}: {state}"


def _said(event: AuditEvent) -> str:
    return f"{event.model_name} v{event.version}: {event.from_stage} -> {event.to_stage}, {event.rationale}"


__all__ = ["ACTOR", "OUTSIDE", "STAGING", "Reconciliation", "bring_together", "reconcile"]
