"""``mlgates lakehouse compact``: fewer files, a checkpoint, the same rows; the audit only when it verifies."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.tables import AUDIT, DRIFT_METRICS, SCHEMAS

from .world import World

ROWS = [{"run_id": f"r{i}", "metric_type": "psi", "value": float(i)} for i in range(12)]


def append_one(job):
    root, row = job
    Lakehouse(root).append(DRIFT_METRICS, pa.Table.from_pylist([row], schema=SCHEMAS[DRIFT_METRICS]))


@pytest.fixture
def fragmented(world: World) -> World:
    world.add_version()
    for reason in ("one", "two", "three"):
        world.mlgates("promote", "revenue", "1", "--to", "Staging", "--reason", reason)
    world.lake.create(DRIFT_METRICS, SCHEMAS[DRIFT_METRICS], append_only=True)
    for row in ROWS:
        append_one((world.lake.root, row))
    world.lake.append(DRIFT_METRICS, pa.Table.from_pylist(ROWS[:1]), transaction=("run", 1))
    return world


def test_files_are_put_together_and_nothing_else_changes(fragmented: World):
    lake = fragmented.lake
    before = {t: lake.read(t).num_rows for t in lake.tables()}
    values = sorted(lake.read(DRIFT_METRICS)["value"].to_pylist())
    done = fragmented.mlgates("lakehouse", "compact")
    assert done.returncode == 0, done.stderr
    assert f"{DRIFT_METRICS}: 13 → 1 files, checkpoint written; append-only stays" in done.stdout
    assert {t: lake.read(t).num_rows for t in lake.tables()} == before
    assert sorted(lake.read(DRIFT_METRICS)["value"].to_pylist()) == values
    assert lake.transaction(DRIFT_METRICS, "run") == 1
    for table in (AUDIT, DRIFT_METRICS):
        assert lake.file_count(table) == 1
        assert list((Path(lake.uri(table)) / "_delta_log").glob("*.checkpoint.parquet"))
        with pytest.raises(DeltaError, match=r"(?i)append"):
            DeltaTable(lake.uri(table)).delete()
    assert fragmented.mlgates("audit", "verify").returncode == 0
    assert fragmented.problems() == []


def test_an_altered_audit_is_not_written_anew(fragmented: World):
    """Compacting an altered file would launder it: the new file would have a digest of its own."""
    victim = fragmented.lake.files(AUDIT)[0]
    victim.write_bytes(b"p" + victim.read_bytes()[1:])  # the magic at the start is read by nobody: rows are as before
    count = fragmented.lake.file_count(AUDIT)
    done = fragmented.mlgates("lakehouse", "compact", AUDIT, DRIFT_METRICS, "--json")
    assert done.returncode == 1
    audit, metrics = json.loads(done.stdout)
    assert (audit["after"], metrics["after"]) == (count, 1)
    assert "its chain does not verify" in audit["problem"]
    assert "was altered" in audit["problem"]
    assert fragmented.lake.file_count(AUDIT) == count


def test_writers_at_the_same_time_lose_nothing(fragmented: World):
    extra = [{"run_id": f"x{i}", "metric_type": "psi", "value": 100.0 + i} for i in range(20)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        writes = pool.map(append_one, [(fragmented.lake.root, row) for row in extra])
        done = fragmented.mlgates("lakehouse", "compact", DRIFT_METRICS)
        list(writes)
    assert done.returncode in (0, 1), done.stderr
    ids = fragmented.lake.read(DRIFT_METRICS)["run_id"].to_pylist()
    assert len(ids) == 13 + 20
    assert {r["run_id"] for r in extra} <= set(ids)


def test_a_table_that_is_not_there_is_one_line(world: World):
    world.add_version()
    done = world.mlgates("lakehouse", "compact", "lh_gold.ml_drift_metric")
    assert done.returncode == 4
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1
    assert "is not in the lakehouse" in done.stderr
