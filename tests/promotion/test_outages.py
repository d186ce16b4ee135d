"""A full disk, a registry that goes away, a clock that is set back: a clear error, and nothing lost."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_mlgates.audit import AuditLog
from pytest_mlgates.errors import LakehouseError, PromotionRefused, RegistryUnavailable
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services.lease import open_intent

from .world import MODEL, World


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root; run the tests as root")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting a small tmpfs is not allowed here: {done.stderr.strip()}; run with CAP_SYS_ADMIN")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Fill a disk up to some bytes."""
    ballast = disk / "ballast"
    stat = os.statvfs(disk)
    ballast.write_bytes(b"x" * max(stat.f_bavail * stat.f_frsize - leave, 0))
    return ballast


@pytest.mark.root
@pytest.mark.parametrize("leave", [0, 4096, 12288, 20480, 28672, 36864])
def test_a_full_disk_under_the_audit(one_up: World, small_disk: Path, leave: int):
    """Whichever write of a promotion it stops, the error names the table, and what is there afterwards can be settled."""
    world = one_up
    audit_folder = world.folder / "lakehouse" / "lh_gold" / "ml_promotion_audit"
    subprocess.run(["cp", "-a", f"{audit_folder}/.", str(small_disk)], check=True)
    subprocess.run(["mount", "--bind", str(small_disk), str(audit_folder)], check=True)
    try:
        rows = len(world.audit.rows())
        ballast = fill(small_disk, leave=leave)
        failed = ""
        try:
            world.hotfix("2")
        except LakehouseError as error:
            failed = str(error)
        ballast.unlink()
        if failed:
            assert "ml_promotion_audit" in failed
            assert "\n" not in failed
        assert failed or leave > 0
        world.reconcile()
        assert len(world.audit.rows()) >= rows
        assert world.problems() == []
        if world.stages()["2"] != "Production":
            world.hotfix("2")
        assert world.stages() == {"1": "Archived", "2": "Production", "3": "None"}
        assert world.problems() == []
    finally:
        subprocess.run(["umount", "-l", str(audit_folder)], check=True)


class Flaky:
    """A registry whose calls fail from some point on, in front of the real one: a server that goes away."""

    def __init__(self, real: object, method: str, *, after: bool) -> None:
        self._real, self._method, self._after = real, method, after
        self.down = False

    def __getattr__(self, name: str) -> object:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*arguments: object, **options: object) -> object:
            if self.down:
                raise RegistryUnavailable("registry at http://127.0.0.1:5000 did not answer: connection refused")
            if name != self._method:
                return found(*arguments, **options)
            if self._after:
                found(*arguments, **options)
            self.down = True
            raise RegistryUnavailable("registry at http://127.0.0.1:5000 did not answer: connection reset")

        return call


@pytest.mark.parametrize("method", ["set_stage", "set_alias", "delete_alias", "set_model_tag"])
@pytest.mark.parametrize("after", [False, True], ids=["before-it-was-done", "after-it-was-done"])
def test_a_registry_that_goes_away_in_mid_promotion(one_up: World, method: str, after: bool):
    world = one_up
    real = world.registry
    world.__dict__["registry"] = Flaky(real, method, after=after)
    with pytest.raises(RegistryUnavailable, match=r"registry at http://127\.0\.0\.1:5000 did not answer"):
        world.hotfix("2")
    world.__dict__["registry"] = real
    world.reconcile()
    assert world.problems() == []
    moved = method != "set_stage" or after
    assert world.stages()["2"] == ("Production" if moved else "Staging")
    assert open_intent(world.audit.rows(MODEL)) is None
    if not moved:
        world.hotfix("2")
    assert world.stages()["1"] == "Archived"
    assert world.problems() == []


def test_a_registry_that_fails_for_a_moment_aborts_and_the_next_try_goes_through(world: World):
    world.add_version()
    real = world.registry
    flaky = Flaky(real, "set_stage", after=False)
    world.__dict__["registry"] = flaky

    class Back:
        """Down for one call only."""

        def __getattr__(self, name: str) -> object:
            flaky.down = False
            return getattr(flaky, name)

    world.__dict__["registry"] = Back()
    with pytest.raises(RegistryUnavailable):
        world.promote("1", "Staging")
    assert world.states() == ["intent", "aborted"]
    world.__dict__["registry"] = real
    assert world.promote("1", "Staging").found.quiet
    assert world.problems() == []


def test_a_clock_that_is_set_back(make_world: Callable[..., World]):
    """Evidence from the future is refused with both times; the chain holds, and verify notes the jump."""
    world = make_world()
    world.add_version()
    world.add_version()
    world.promote("1", "Staging")
    back = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    with pytest.raises(PromotionRefused, match=r"ahead of this machine's clock .* set the clock right, or run"):
        world.promote("2", "Staging", now=lambda: back)
    world.judge(world.registry.get(MODEL, "2"), created=back)
    slow = AuditLog(Lakehouse(world.folder / "lakehouse"), now=lambda: back)
    from pytest_mlgates.services.promote import promote

    promote(world.registry, slow, world.settings, MODEL, "2", "Staging", actor="a", reason="r", git_sha="", now=lambda: back)
    report = world.audit.verify()
    assert report.ok
    assert any("the clock ran backwards" in note for note in report.notes)
    assert world.problems() == []
