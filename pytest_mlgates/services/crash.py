"""Named points at which a promotion may be killed on purpose, to prove that a crash loses nothing."""

from __future__ import annotations

import os
import signal

CRASH_AT = "MLGATES_CRASH_AT"
POINTS = (
    "promote-start",
    "reconciled",
    "checked",
    "before-intent",
    "after-intent",
    "lease-held",
    "before-stage",
    "after-stage",
    "before-aliases",
    "between-aliases",
    "after-aliases",
    "before-committed",
    "after-committed",
    "before-anchor",
    "after-anchor",
)
"""Every point of a promotion, in the order in which it is passed."""

RECOVERY_POINTS = ("recover-taken", "recover-aligned", "recover-closed")
"""Points of settling what a crash left, for a second crash on top of the first."""


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL where ``MLGATES_CRASH_AT`` names this point; else nothing.

    Tests set the variable in a child process of their own. Elsewhere it is unset and this is one look-up.
    """
    if os.environ.get(CRASH_AT) == name:
        os.kill(os.getpid(), signal.SIGKILL)
