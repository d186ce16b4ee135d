"""What is altered is found by the command that looks, with the place named."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from pytest_mlgates.audit import GENESIS, AuditEvent, AuditLog, row_hash
from pytest_mlgates.tables import AUDIT

from .conftest import Template
from .world import HOLDOUT, MODEL, World


def verdict(world: World, *words: str) -> tuple[int, str]:
    done = world.mlgates(*words)
    return done.returncode, done.stdout + done.stderr


def flip(path: Path, seed: int = 0) -> None:
    data = bytearray(path.read_bytes())
    at = random.Random(seed).randrange(len(data))
    data[at] ^= 0x01
    path.write_bytes(bytes(data))


def flip_in(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(bytes(data))


def assert_refused(world: World, words: str) -> None:
    code, said = verdict(world, "promote", MODEL, "1", "--to", "Staging", "--reason", "x")
    assert code == 1
    assert re.search(words, said), said
    assert world.stages()["1"] == "None"
    assert world.states()[-1] == "refused"


def evidence_file(world: World) -> Path:
    [path] = world.folder.glob("runs/*/artifacts/mlgates/evidence/*.json")
    return path


@pytest.mark.parametrize("seed", range(8))
def test_a_changed_byte_in_the_evidence(world: World, seed: int):
    world.add_version()
    flip(evidence_file(world), seed)
    code, said = verdict(world, "evidence", "verify", MODEL, "1")
    assert code == 1
    assert "revenue v1: mlgates/evidence/ev-" in said
    assert_refused(world, r"mlgates/evidence/ev-\w+\.json: (the evidence|not)")


def test_a_whole_new_evidence_under_the_old_name(world: World):
    version = world.add_version(judged=False)
    world.judge(version)
    forged = world.evidence(version, git={"sha": "other", "dirty": True})
    evidence_file(world).write_bytes(forged.to_bytes())
    assert_refused(world, rf"holds evidence {forged.id}, not ev-")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("flip", "data/weights.bin altered"),
        ("add", "code.py added"),
        ("rename", "data/weights.bin gone, data/other.bin added"),
        ("remove", "data/weights.bin gone"),
    ],
)
def test_a_changed_model_artifact(world: World, change: str, place: str):
    world.add_version()
    folder = world.model_folder("1")
    weights = folder / "data" / "weights.bin"
    if change == "flip":
        flip(weights)
    elif change == "add":
        (folder / "code.py").write_text("import os\n")
    elif change == "rename":
        weights.rename(folder / "data" / "other.bin")
    else:
        weights.unlink()
    code, said = verdict(world, "evidence", "verify", MODEL, "1")
    assert code == 1
    assert f"revenue v1: its model files have changed since the gates ran ({place})" in said
    assert_refused(world, "its model files have changed")


def test_a_changed_byte_in_the_holdout_table(world: World):
    """Wherever a byte is changed, also where it carries no value: between the pages, in the footer."""
    world.add_version()
    [file] = (world.folder / "lakehouse" / "lh_gold" / "revenue_holdout").glob("*.parquet")
    original = file.read_bytes()
    for part in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.99):
        flip_in(file, int(part * (len(original) - 1)))
        code, said = verdict(world, "evidence", "verify", MODEL, "1")
        assert code == 1, part
        assert f"holdout {HOLDOUT}@0 has changed" in said or f"cannot read {HOLDOUT}" in said, said
        file.write_bytes(original)
    flip_in(file, len(original) // 2)
    assert_refused(world, "holdout")
    file.write_bytes(original)
    assert verdict(world, "evidence", "verify", MODEL, "1")[0] == 0


def test_a_changed_byte_in_the_log_of_the_holdout_table(world: World):
    world.add_version()
    [file] = (world.folder / "lakehouse" / "lh_gold" / "revenue_holdout" / "_delta_log").glob("*.json")
    for part in (0.0, 0.3, 0.6, 0.99):
        kept = file.read_bytes()
        flip_in(file, int(part * (len(kept) - 1)))
        code, said = verdict(world, "evidence", "verify", MODEL, "1")
        assert code == 1
        assert f"holdout {HOLDOUT}@0 has changed since the gates ran: file _delta_log/{file.name}" in said
        file.write_bytes(kept)


def test_rows_written_to_the_holdout_later_do_not_touch_the_version_that_was_judged(world: World):
    world.add_version()
    world.lake.append(HOLDOUT, world.lake.read(HOLDOUT))
    assert verdict(world, "evidence", "verify", MODEL, "1")[0] == 0


def test_a_swapped_settings_file(world: World):
    world.add_version()
    world.write_settings(more="[models.revenue.gates]\nlatency = { p99_max_ms = 2000 }")
    code, said = verdict(world, "evidence", "verify", MODEL, "1")
    assert code == 1
    assert "it was judged by settings sha256:" in said
    assert str(world.folder / "mlgates.toml") in said
    assert_refused(world, "run: pytest --model-name revenue --model-version 1 by the settings in force")


class TestAudit:
    @pytest.fixture
    def moved(self, template: Template, tmp_path: Path) -> World:
        def fill(world: World) -> None:
            for version in ("1", "2", "3"):
                world.add_version()
                world.promote(version, "Staging")
            world.hotfix("2")
            assert verdict(world, "audit", "verify")[0] == 0

        return template("moved", fill).copy(tmp_path / "project")

    @staticmethod
    def folder(world: World) -> Path:
        return world.folder / "lakehouse" / "lh_gold" / "ml_promotion_audit"

    def file_of(self, world: World, seq: int) -> Path:
        return next(f for f in self.folder(world).glob("*.parquet") if seq in pq.read_table(f)["seq"].to_pylist())

    def rewrite(self, world: World, rows: list[dict[str, object]]) -> None:
        """As an attacker with write access does: switch the protection off, overwrite, switch it on again."""
        table = DeltaTable(str(self.folder(world)))
        table.alter.set_table_properties({"delta.appendOnly": "false"})
        schema = pq.read_table(next(self.folder(world).glob("*.parquet"))).schema
        import pyarrow as pa

        write_deltalake(table, pa.Table.from_pylist(rows, schema=schema), mode="overwrite")
        DeltaTable(str(self.folder(world))).alter.set_table_properties({"delta.appendOnly": "true"})

    def rows(self, world: World) -> list[dict[str, object]]:
        return sorted(world.lake.read(AUDIT).to_pylist(), key=lambda row: row["seq"])

    def broken(self, world: World, words: str, *more: str) -> None:
        code, said = verdict(world, "audit", "verify", *more)
        assert code == 1
        assert re.search(words, said), said

    def test_a_changed_value_in_a_rows_file(self, moved: World):
        rows = self.rows(moved)
        rows[3]["rationale"] = "it was fine"
        self.rewrite(moved, rows)
        self.broken(moved, "row 4 was altered")

    def test_a_changed_byte_in_a_rows_file_wherever_it_lies(self, moved: World):
        file = self.file_of(moved, 4)
        for part in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            kept = file.read_bytes()
            flip_in(file, int(part * (len(kept) - 1)))
            self.broken(moved, rf"row 4|cannot read|{file.name} was altered")
            file.write_bytes(kept)
        assert verdict(moved, "audit", "verify")[0] == 0

    def test_a_changed_byte_in_an_entry_of_the_tables_log(self, moved: World):
        for file in sorted((self.folder(moved) / "_delta_log").glob("*.json"))[::3]:
            kept = file.read_bytes()
            for part in (0.0, 0.3, 0.6, 0.99):
                flip_in(file, int(part * (len(kept) - 1)))
                self.broken(moved, f"_delta_log/{file.name} was altered")
                file.write_bytes(kept)
        assert verdict(moved, "audit", "verify")[0] == 0

    def test_an_altered_audit_lets_nothing_move(self, moved: World):
        """And a reader in Rust that stumbles over a changed byte may end the process, so the bytes are compared first."""
        flip(self.file_of(moved, 4))
        for words in (["promote", MODEL, "3", "--to", "Archived", "--reason", "x"], ["reconcile"], ["audit", "list"]):
            code, said = verdict(moved, *words)
            assert code == 1
            assert "(row 4) was altered" in said
        assert moved.stages()["3"] == "Staging"

    def test_a_deleted_row(self, moved: World):
        self.rewrite(moved, [row for row in self.rows(moved) if row["seq"] != 4])
        self.broken(moved, "row 4 is missing: after row 3 comes row 5")

    def test_a_file_put_in_place_of_another(self, moved: World):
        file = self.file_of(moved, 4)
        pq.write_table(pq.read_table(file).replace_schema_metadata({"x": "y"}), file, compression="none")
        self.broken(moved, rf"{file.name} \(row 4\) was altered")

    def test_a_deleted_file(self, moved: World):
        self.file_of(moved, 4).unlink()
        self.broken(moved, "cannot read lh_gold.ml_promotion_audit")

    def test_reordered_rows(self, moved: World):
        rows = self.rows(moved)
        rows[3]["seq"], rows[4]["seq"] = rows[4]["seq"], rows[3]["seq"]
        self.rewrite(moved, rows)
        self.broken(moved, "row 4 does not follow row 3")

    def test_a_row_that_stands_twice(self, moved: World):
        rows = self.rows(moved)
        self.rewrite(moved, [*rows, rows[-1]])
        self.broken(moved, "row 8 stands twice|audit row 8 stands 2 times")

    def test_a_cut_tail(self, moved: World):
        self.rewrite(moved, self.rows(moved)[:-2])
        self.broken(moved, "the tail is cut")

    def test_a_cut_tail_of_refusals(self, moved: World, tmp_path: Path):
        shutil.copytree(self.folder(moved), tmp_path / "old")
        assert verdict(moved, "promote", MODEL, "1", "--to", "Production", "--reason", "try")[0] == 1
        shutil.rmtree(self.folder(moved))
        shutil.copytree(tmp_path / "old", self.folder(moved))
        self.broken(moved, "the tail is cut: the tag of revenue has seen row 9, the table ends at row 8")

    def test_a_table_put_back_to_an_older_state(self, moved: World, tmp_path: Path):
        """A whole older copy has a chain and a transaction log that hold; only what was kept outside shows it."""
        shutil.copytree(self.folder(moved), tmp_path / "old")
        anchor = tmp_path / "anchor.json"
        moved.promote("1", "Archived")
        assert verdict(moved, "audit", "verify", "--write-anchor", str(anchor))[0] == 0
        shutil.rmtree(self.folder(moved))
        shutil.copytree(tmp_path / "old", self.folder(moved))
        self.broken(moved, "the tail is cut: the tag of revenue has seen row 10, the table ends at row 8")
        moved.registry.client.delete_registered_model_tag(MODEL, "mlgates.audit_head")
        assert verdict(moved, "audit", "verify")[0] == 0
        self.broken(moved, "anchor.json has seen row 10", "--anchor", str(anchor))

    def test_a_cut_chain_does_not_grow_again(self, moved: World, tmp_path: Path):
        """Else it would outgrow its anchor, the anchor would move on, and nobody would ever see the cut."""
        shutil.copytree(self.folder(moved), tmp_path / "old")
        moved.promote("1", "Archived")
        shutil.rmtree(self.folder(moved))
        shutil.copytree(tmp_path / "old", self.folder(moved))
        for words in (["promote", MODEL, "3", "--to", "Archived", "--reason", "x"], ["reconcile"], ["rollback", MODEL]):
            code, said = verdict(moved, *words)
            assert code == 1
            assert "the tail is cut: the tag mlgates.audit_head of revenue has seen row 10" in said
        assert len(moved.audit.rows()) == 8

    def test_a_fork_of_the_chain(self, moved: World, tmp_path: Path):
        """Two copies that both went on: each holds in itself, the anchor knows one."""
        shutil.copytree(self.folder(moved), tmp_path / "old")
        moved.promote("1", "Archived")
        shutil.rmtree(self.folder(moved))
        shutil.copytree(tmp_path / "old", self.folder(moved))
        other = AuditEvent(MODEL, "3", "Staging", "Archived", "eve", "intent", "another history")
        closed = dataclasses.replace(other, state="committed", fence=9)
        AuditLog(moved.lake).append_all([other, closed])
        self.broken(moved, r"_delta_log/\d+9.json was altered")
        shutil.rmtree(moved.folder / "lakehouse" / "_digests")
        self.broken(moved, "the chain was rewritten: the tag of revenue has seen row 10")

    def test_a_chain_rewritten_whole(self, moved: World):
        """With every hash made anew the chain holds in itself; the anchor does not fit it."""
        rows = AuditLog(moved.lake).rows()
        last, forged = GENESIS, []
        for row in rows:
            event = dataclasses.replace(row.event, actor="somebody else")
            made = dataclasses.replace(row, event=event, prev_hash=last)
            made = dataclasses.replace(made, hash=row_hash(made))
            last = made.hash
            forged.append(made)
        from pytest_mlgates.services.audit_export import to_dicts

        self.rewrite(moved, to_dicts(forged))
        self.broken(moved, "the chain was rewritten: the tag of revenue has seen row 8")

    def test_the_table_refuses_delete_update_and_overwrite(self, moved: World):
        table = DeltaTable(str(self.folder(moved)))
        before = self.rows(moved)
        with pytest.raises(DeltaError, match="append-only"):
            table.delete("seq = 1")
        with pytest.raises(DeltaError, match="append-only"):
            table.update(updates={"actor": "'x'"}, predicate="seq = 1")
        with pytest.raises(DeltaError, match="append-only"):
            write_deltalake(table, moved.lake.read(AUDIT), mode="overwrite")
        assert self.rows(moved) == before


def test_an_export_carries_every_row_with_its_hash_and_no_formula(world: World, tmp_path: Path):
    world.add_version()
    world.promote("1", "Staging", reason="=cmd|' /C calc'!A1\x1b[2J", actor="@SUM(A1)")
    for kind in ("csv", "jsonl", "parquet"):
        assert verdict(world, "audit", "export", "--format", kind, "--output", str(tmp_path / kind))[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    rows = world.audit.rows()
    assert [line["hash"] for line in lines] == [row.hash for row in rows]
    assert pq.read_table(tmp_path / "parquet")["hash"].to_pylist() == [row.hash for row in rows]
    import csv

    with (tmp_path / "csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert cells[0]["rationale"].startswith("'=cmd|")
    assert cells[0]["actor"] == "'@SUM(A1)"
    assert "\x1b" not in (tmp_path / "csv").read_text() + verdict(world, "audit", "list")[1]
