"""The machine's clock is wrong: ``mlgates`` in processes of their own under libfaketime.

Two offsets with the commands that decide by it; ``MLGATES_PROVE=1`` (``make prove``) does every command under every offset.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlgates.audit import AuditLog

from .world import MODEL, World

pytestmark = pytest.mark.skipif(
    shutil.which("faketime") is None, reason="no faketime command; install it with: apt-get install faketime"
)
HOTFIX = ("--reason", "it is better", "--hotfix", "--approver", "bob")


def at(offset: str, world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """One command in a process whose clock is off."""
    return subprocess.run(
        ["faketime", "-f", offset, str(Path(sys.executable).with_name("mlgates")), *words],
        cwd=world.folder, env={**os.environ, "GIT_SHA": "abc"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_clock_that_is_set_back_lets_no_evidence_from_the_future_through_and_loses_nothing(one_up: World):
    refused = at("-2d", one_up, "promote", MODEL, "2", "--to", "Production", *HOTFIX)
    assert refused.returncode == 1
    assert "ahead of this machine's clock" in refused.stderr
    assert "set the clock right, or run: pytest" in refused.stderr
    assert refused.stderr.count("\n") == 1
    rows = one_up.audit.rows()
    assert rows[-1].event.state == "refused"
    assert rows[-1].event_time < rows[-2].event_time - dt.timedelta(days=1)
    one_up.hotfix("2")
    verified = one_up.mlgates("audit", "verify")
    assert verified.returncode == 0
    assert "the clock ran backwards" in verified.stderr
    assert one_up.stages() == {"1": "Archived", "2": "Production", "3": "None"}
    assert one_up.problems() == []


@pytest.mark.slow
def test_a_clock_that_is_ahead_makes_no_young_row_old(one_up: World):
    before = one_up.audit.rows()
    done = at("+8y", one_up, "audit", "archive")
    assert done.returncode == 4
    assert "the newest audit row is of" in done.stderr
    assert "--today YYYY-MM-DD; nothing was archived" in done.stderr
    assert one_up.audit.rows() == before


def test_an_audit_that_has_long_been_quiet_is_archived_by_a_clock_that_is_confirmed(world: World):
    now = dt.datetime.now(dt.UTC)
    world.add_version(created=now - dt.timedelta(days=500))
    from pytest_mlgates.services.promote import promote

    past = AuditLog(world.lake, now=lambda: now - dt.timedelta(days=500))
    common = {"actor": "ann", "reason": "r", "git_sha": "", "now": lambda: now - dt.timedelta(days=500)}
    promote(world.registry, past, world.settings, MODEL, "1", "Staging", **common)
    assert world.mlgates("audit", "archive").returncode == 4
    wrong = world.mlgates("audit", "archive", "--today", "2020-02-02")
    assert wrong.returncode == 4
    assert "is not what this machine's clock says" in wrong.stderr
    done = world.mlgates("audit", "archive", "--today", f"{dt.datetime.now(dt.UTC):%Y-%m-%d}")
    assert done.returncode == 0, done.stderr
    assert "1 rows moved to" in done.stdout
    assert world.mlgates("audit", "verify").returncode == 0
    assert world.problems() == []


@pytest.mark.prove
@pytest.mark.parametrize("offset", ["-2h", "-2d", "-2y", "+1d", "+2y", "+8y"])
def test_every_command_under_every_clock(one_up: World, offset: str):
    expected = {
        ("audit", "archive"): {"-": 0, "+1d": 0, "+": 4},
        ("promote", MODEL, "2", "--to", "Production", *HOTFIX): {"-": 1, "+1d": 0, "+": 1},
        ("promote", MODEL, "3", "--to", "Staging", "--reason", "r"): {"-": 1, "+1d": 0, "+": 1},
        ("reconcile",): {"": 0},
        ("evidence", "verify", MODEL, "1"): {"-": 1, "+1d": 0, "+": 1},
        ("challenger", "status"): {"": 0},
        ("audit", "list", "--since", "2020-01-01"): {"": 0},
        ("audit", "verify"): {"": 0},
        ("rollback", MODEL, "--reason", "r"): {"+1d": 0, "": 1},
    }
    before = one_up.audit.rows()
    for words, codes in expected.items():
        done = at(offset, one_up, *words)
        code = next(code for prefix, code in codes.items() if offset.startswith(prefix))
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert one_up.audit.rows()[: len(before)] == before
    assert one_up.audit.verify().ok
    if one_up.stages()["2"] != "Production":
        one_up.hotfix("2")
    assert one_up.mlgates("audit", "verify").returncode == 0
    assert one_up.problems() == []
