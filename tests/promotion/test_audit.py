"""The audit log: order under contention, filters, archive and retention."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pytest_mlgates.audit import GENESIS, AuditEvent, AuditLog, anchor, row_hash
from pytest_mlgates.errors import AuditBroken, WriteConflict
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services.audit_archive import archive, check_cold_files
from pytest_mlgates.tables import AUDIT

from .children import fork_server
from .world import World


def event(number: int = 0, model: str = "revenue", **more: str) -> AuditEvent:
    values = {"from_stage": "None", "to_stage": "Staging", "actor": "ann", "state": "committed", **more}
    return AuditEvent(model, str(number), rationale=f"it's number {number}", **values)


def append_many(folder: Path, number: int) -> None:
    log = AuditLog(Lakehouse(folder))
    for i in range(10):
        log.append(event(100 * number + i))


def test_processes_that_append_at_once_make_one_chain(tmp_path: Path):
    context = fork_server()
    children = [context.Process(target=append_many, args=(tmp_path, number)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    log = AuditLog(Lakehouse(tmp_path))
    assert [child.exitcode for child in children] == [0] * 4
    assert [row.seq for row in log.rows()] == list(range(1, 41))
    assert len({row.event.version for row in log.rows()}) == 40
    assert log.verify().ok


def test_rows_of_one_commit_stand_together_or_not_at_all(tmp_path: Path):
    log = AuditLog(Lakehouse(tmp_path))
    assert log.head() == (0, GENESIS)
    log.append_all([event(1), event(2)], expect_head=0)
    with pytest.raises(WriteConflict, match="the audit head is at row 2, not at 0"):
        log.append_all([event(3)], expect_head=0)
    assert [row.event.version for row in log.rows()] == ["1", "2"]
    assert all(row.hash == row_hash(row) for row in log.rows())


def test_many_rows_are_compacted_and_the_chain_holds(tmp_path: Path):
    log = AuditLog(Lakehouse(tmp_path))
    for number in range(22):
        log.append_all([event(3 * number + i) for i in range(3)])
    assert log.verify([anchor(*log.head())]).ok
    assert [row.seq for row in log.rows()] == list(range(1, 67))
    live = len(__import__("deltalake").DeltaTable(log.store.uri(AUDIT)).file_uris())
    assert live < 5


def test_filters(tmp_path: Path):
    times = iter(dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in range(1, 9))
    log = AuditLog(Lakehouse(tmp_path), now=lambda: next(times))
    log.append(event(1))
    log.append(event(1, from_stage="Staging", to_stage="Production"))
    log.append(event(2, model="o'hara", state="refused"))
    assert [r.seq for r in log.rows("revenue")] == [1, 2]
    assert [r.seq for r in log.rows("o'hara")] == [3]
    assert [r.seq for r in log.rows(stage="Staging")] == [1, 2, 3]
    assert [r.seq for r in log.rows(stage="Production")] == [2]
    assert [r.seq for r in log.rows(state="refused")] == [3]
    since, until = dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 3, tzinfo=dt.UTC)
    assert [r.seq for r in log.rows(since=since, until=until)] == [2]


class TestArchive:
    NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    def log(self, world: World, *ages_days: float, model: str = "revenue") -> AuditLog:
        times = iter([*(self.NOW - dt.timedelta(days=age) for age in ages_days), *[self.NOW] * 9])
        log = AuditLog(world.lake, now=lambda: next(times))
        for number, _ in enumerate(ages_days):
            log.append(event(number, model))
        return log

    def test_only_rows_past_their_retention_go_and_the_proof_stays(self, world: World):
        log = self.log(world, 900, 800, 367, 364, 1)
        before = log.rows()
        old_anchor, head = anchor(2, before[1].hash), anchor(*log.head())
        done = archive(log, world.settings, now=self.NOW, actor="ann")
        assert (done.rows, done.last_seq) == (3, 3)
        assert [row.seq for row in log.rows()] == [4, 5, 6, 7, 8, 9]
        assert [row.event.state for row in log.rows()[2:]] == ["archived", "observed", "observed", "observed"]
        assert pq.read_table(done.file)["hash"].to_pylist() == [row.hash for row in before[:3]]
        assert world.lake.guarded(AUDIT)
        report = log.verify([old_anchor, head])
        assert report.ok
        assert report.notes == ("rows 1 to 3 are in the archive",)
        assert check_cold_files(log) == []
        log.append(event(9))
        assert log.verify().ok
        assert archive(log, world.settings, now=self.NOW, actor="ann").rows == 0

    def test_what_the_old_rows_decided_goes_on_holding(self, world: World):
        """v1 and v2 were promoted three years ago: no alarm, no forgotten Production, and a way back."""
        then = dt.datetime.now(dt.UTC) - dt.timedelta(days=1100)
        from pytest_mlgates.services.promote import promote, rollback

        past = AuditLog(world.lake, now=lambda: then)
        for version in ("1", "2"):
            world.add_version(created=then)
            common = {"actor": "ann", "reason": "r", "git_sha": "", "now": lambda: then}
            promote(world.registry, past, world.settings, "revenue", version, "Staging", **common)
            promote(
                world.registry, past, world.settings, "revenue", version, "Production", hotfix=True, approver="bob", **common
            )
        world.add_version()
        world.promote("3", "Staging")
        assert archive(world.audit, world.settings, now=dt.datetime.now(dt.UTC), actor="ann").rows > 5
        assert world.reconcile().quiet
        assert world.problems() == []
        world.hotfix("3")
        assert world.stages() == {"1": "Archived", "2": "Archived", "3": "Production"}
        done = rollback(world.registry, world.audit, world.settings, "revenue", actor="a", reason="r", git_sha="")
        assert done.version == "2"
        assert world.problems() == []

    def test_a_regulated_model_keeps_seven_years(self, make_world: Callable[..., World]):
        world = make_world(more='regulated = true\nsensitive = ["x"]')
        log = self.log(world, 2600, 2500, 900)
        assert archive(log, world.settings, now=self.NOW, actor="ann").rows == 1
        other = make_world("other")
        log = self.log(other, 2500, 900, model="unknown to the settings")
        assert archive(log, other.settings, now=self.NOW, actor="ann").rows == 0

    def test_a_younger_row_before_an_older_one_keeps_both(self, world: World):
        log = self.log(world, 100, 900, 1)
        assert archive(log, world.settings, now=self.NOW, actor="ann").rows == 0

    def test_a_crash_before_the_removal_is_settled_by_the_next_run(self, world: World):
        log = self.log(world, 900, 800, 1)
        prune = world.lake.prune
        world.lake.prune = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(ZeroDivisionError):
            archive(log, world.settings, now=self.NOW, actor="ann")
        assert log.verify().ok
        world.lake.prune = prune  # type: ignore[method-assign]
        archive(log, world.settings, now=self.NOW, actor="ann")
        assert [row.seq for row in log.rows()] == [3, 4, 5, 6]
        assert log.verify().ok

    def test_a_rewritten_chain_cannot_get_rid_of_what_its_anchors_remember(self, world: World):
        log = self.log(world, 900, 800, 1)
        with pytest.raises(AuditBroken, match=r"the tag of revenue has seen row 2 as .*; nothing was archived"):
            archive(
                log, world.settings, now=self.NOW, actor="ann", anchors={"the tag of revenue": anchor(2, "sha256:" + "1" * 64)}
            )
        assert [row.seq for row in log.rows()] == [1, 2, 3]

    def test_an_altered_cold_file_is_found(self, world: World):
        log = self.log(world, 900, 800, 1)
        done = archive(log, world.settings, now=self.NOW, actor="ann")
        Path(done.file).write_bytes(Path(done.file).read_bytes() + b"x")
        assert "was altered: row 4 knows it as sha256:" in check_cold_files(log)[0]
        Path(done.file).unlink()
        assert "is gone; row 4 names it" in check_cold_files(log)[0]

    def test_a_cut_head_without_an_archive_is_found(self, world: World):
        log = self.log(world, 900, 800, 1)
        world.lake.prune(AUDIT, "seq <= 1")
        assert log.verify().problem.startswith("row 1 is missing")
        with pytest.raises(AuditBroken, match="nothing was archived"):
            archive(log, world.settings, now=self.NOW, actor="ann")

    def test_a_protection_that_was_switched_off_is_found(self, world: World):
        from deltalake import DeltaTable

        log = self.log(world, 1)
        DeltaTable(world.lake.uri(AUDIT)).alter.set_table_properties({"delta.appendOnly": "false"})
        assert "is no longer append-only" in log.verify().problem


def test_an_anchor_reads_back_and_nonsense_does_not(tmp_path: Path):
    log = AuditLog(Lakehouse(tmp_path))
    log.append(event(1))
    assert json.loads(anchor(*log.head()))["seq"] == 1
    assert "is no anchor of the audit chain" in log.verify({"tag": "nonsense"}).problem


@pytest.mark.parametrize(
    "text",
    ['{"seq":1e999,"hash":"x"}', '{"seq":-5,"hash":"x"}', '{"seq":true,"hash":"x"}', '{"seq":1}', "[" * 100_000, "null", ""],
)
def test_what_is_no_anchor_is_named_and_never_agrees(world: World, text: str):
    world.add_version()
    world.promote("1", "Staging")
    (world.folder / "anchor.json").write_text(text)
    done = world.mlgates("audit", "verify", "--anchor", "anchor.json")
    assert done.returncode == 1
    assert "is no anchor of the audit chain" in done.stderr


def test_a_file_that_is_no_text_is_no_anchor(world: World):
    world.add_version()
    world.promote("1", "Staging")
    done = world.mlgates("audit", "verify", "--anchor", "mlflow.db")
    assert done.returncode == 4
    assert done.stderr == "mlgates: mlflow.db is no text; name a file made by --write-anchor\n"
