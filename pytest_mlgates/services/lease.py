"""The lease on one model: an ``intent`` row in the audit that no closing row has closed.

MLflow has no conditional write, so two promoters must never be at it at once. The audit's compare-and-swap is the lock: an
intent is appended only while the chain's head is where it was when no intent was open. Its ``seq`` is the fencing number:
it is checked before every write to the registry, and a closing row is appended only while it is still the open one. Whoever
finds the holder dead (same machine, process gone) or has watched the same intent for ``lease_s`` seconds of its own monotonic
clock takes it over by a further intent row with a higher fencing number. No decision rests on the wall clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlgates.errors import WriteConflict

if TYPE_CHECKING:
    from pytest_mlgates.ports import AuditEvent, AuditRow, AuditTrail

LEASE_S = 120.0
WAIT_S = 300.0
_LONGEST_PAUSE_S = 0.5
_QUEUE = 10  # holders one after the other that one promoter waits for, in units of wait_s
_CLOSING = frozenset({"committed", "aborted"})
_held: set[str] = set()  # leases of this process, so that one it has let go of counts as dead


def open_intent(rows: Sequence[AuditRow]) -> AuditRow | None:
    """Return the intent of a model that nothing has closed, given the model's rows in order."""
    found: AuditRow | None = None
    for row in rows:
        if row.event.state == "intent":
            found = row
        elif found is not None and row.event.state in _CLOSING and row.event.fence == found.seq:
            found = None
    return found


def holder_name() -> str:
    """Name this process so that a process of the same machine can tell whether it still lives."""
    return "|".join([socket.gethostname(), _boot_id(), str(os.getpid()), _started(os.getpid()), uuid.uuid4().hex[:12]])


def is_dead(holder: str) -> bool:
    """Whether the holder is known to be gone; ``False`` where that cannot be told from here."""
    parts = holder.split("|")
    if len(parts) != 5 or parts[0] != socket.gethostname() or parts[1] != _boot_id() or not parts[1]:
        return False
    if parts[2] == str(os.getpid()):
        return holder not in _held
    return _started(int(parts[2])) != parts[3]


class Lease:
    """The right to move versions of one model.

    Parameters
    ----------
    audit
        The audit.
    row
        The intent row.
    """

    def __init__(self, audit: AuditTrail, row: AuditRow) -> None:
        self._audit = audit
        self.row = row

    @property
    def event(self) -> AuditEvent:
        """The intent."""
        return self.row.event

    def check(self) -> None:
        """Raise WriteConflict when somebody else has taken the lease over."""
        current = open_intent(self._audit.rows(self.event.model_name))
        if current is None or current.seq != self.row.seq:
            now = f"row {current.seq} holds it now" if current is not None else "it was closed"
            raise WriteConflict(
                f"the lease of row {self.row.seq} on {self.event.model_name} was lost ({now}); run: mlgates reconcile "
                f"{self.event.model_name}"
            )

    def close(self, events: Sequence[AuditEvent]) -> list[AuditRow]:
        """Append the closing rows while the lease is still ours, and let it go. Raises WriteConflict when it was lost."""
        while True:
            head, _ = self._audit.head()
            self.check()
            with contextlib.suppress(WriteConflict):
                rows = self._audit.append_all(
                    [dataclasses.replace(e, fence=self.row.seq, intent_id=self.event.intent_id) for e in events],
                    expect_head=head,
                )
                self.release()
                return rows

    def release(self) -> None:
        """Stop counting as alive: whoever comes next may take over an intent that is still open."""
        _held.discard(self.event.holder)


def acquire(
    audit: AuditTrail,
    event: AuditEvent,
    *,
    recover: Callable[[Lease], None],
    lease_s: float = LEASE_S,
    wait_s: float = WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Append an intent as soon as no other is open, and return the lease.

    Parameters
    ----------
    event
        The intent; ``state`` and ``holder`` are filled in.
    recover
        Called with the lease of a dead holder's intent, which it must settle and close.
    lease_s
        Seconds after which a holder that shows no progress counts as dead.
    wait_s
        Seconds after which waiting for one living holder is given up; for a queue of them, ten times as many.

    Raises
    ------
    WriteConflict
        One living holder kept the lease for ``wait_s`` seconds, or a queue of them ten times as long.
    """
    deadline = time.monotonic() + _QUEUE * wait_s
    while True:
        left = min(wait_s, max(deadline - time.monotonic(), 0.0))
        head = settle(audit, event.model_name, recover=recover, lease_s=lease_s, wait_s=left, sleep=sleep)
        lease = _try_append(audit, event, head)
        if lease is not None:
            return lease


def settle(
    audit: AuditTrail,
    name: str,
    *,
    recover: Callable[[Lease], None],
    lease_s: float = LEASE_S,
    wait_s: float = WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Wait until no intent of a model is open, settling those of dead holders; return the chain's head of that moment.

    Raises
    ------
    WriteConflict
        One living holder kept the lease for ``wait_s`` seconds, or a queue of them ten times as long.
    """
    watch = _Watch(lease_s)
    deadline, last = time.monotonic() + wait_s, time.monotonic() + _QUEUE * wait_s
    looked_at, pause = -1, 0.1
    current: AuditRow | None = None
    while True:
        head, _ = audit.head()
        if head != looked_at:  # eight waiting processes that read every row each time leave the holder no processor
            before, current = current, open_intent(audit.rows(name))
            if current is not None and (before is None or before.seq != current.seq):  # another holder: it is getting on
                deadline = min(time.monotonic() + wait_s, last)
            looked_at, pause = head, 0.1
        if current is None:
            return head
        if watch.gives_up(current):
            looked_at = -1
            taken = take_over(audit, current, head)
            if taken is not None:
                recover(taken)
        elif time.monotonic() > deadline:
            who = f"{current.event.actor} (on {current.event.holder.partition('|')[0] or 'an unknown machine'})"
            raise WriteConflict(f"{who} has been moving {name} since audit row {current.seq}; try again later")
        else:
            sleep(random.uniform(0.5 * pause, 1.5 * pause))
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)


def take_over(audit: AuditTrail, row: AuditRow, head: int) -> Lease | None:
    """Take a dead holder's intent over; ``None`` when somebody else was quicker."""
    rationale = f"takes over the lease of row {row.seq}: {row.event.rationale}"
    return _try_append(audit, dataclasses.replace(row.event, fence=row.seq, rationale=rationale), head)


class _Watch:
    """How long this process has seen one and the same intent open, by its own monotonic clock."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seq = -1
        self._since = 0.0

    def gives_up(self, row: AuditRow) -> bool:
        if row.seq != self._seq:
            self._seq, self._since = row.seq, time.monotonic()
        return is_dead(row.event.holder) or time.monotonic() - self._since >= self._lease_s


def _try_append(audit: AuditTrail, event: AuditEvent, head: int) -> Lease | None:
    holder = holder_name()
    _held.add(holder)
    try:
        row = audit.append_all([dataclasses.replace(event, state="intent", holder=holder)], expect_head=head)[0]
    except WriteConflict:
        _held.discard(holder)
        time.sleep(random.uniform(0.005, 0.05))
        return None
    except BaseException:
        _held.discard(holder)
        raise
    return Lease(audit, row)


def _boot_id() -> str:
    """Name the running kernel and the process-number space: only within it does a process number mean one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else fields[19]
