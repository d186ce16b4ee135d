"""Named points at which a promotion may be killed or stopped on purpose, to prove that a crash or an outage loses nothing."""

from __future__ import annotations

import os
import signal

CRASH_AT = "MLGATES_CRASH_AT"
STOP_AT = "MLGATES_STOP_AT"
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
    """Kill this process with SIGKILL where ``MLGATES_CRASH_AT`` names this point, stop it where ``MLGATES_STOP_AT`` does; else nothing.

    Tests set the variables in a child process of their own; a stopped one goes on by SIGCONT. Elsewhere they are unset and
    this is two look-ups.
    """
    for variable, blow in ((CRASH_AT, signal.SIGKILL), (STOP_AT, signal.SIGSTOP)):
        if os.environ.get(variable) == name:
            os.kill(os.getpid(), blow)
