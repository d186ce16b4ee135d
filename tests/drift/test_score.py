"""Batch scoring: every row once per version, whatever is killed and however many run at once."""

import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from pytest_mlgates import suite
from pytest_mlgates.errors import DataUnusable, UsageProblem
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services.score import POINTS, score
from pytest_mlgates.tables import FORECASTS, PREDICTION_LOG, SCHEMAS, SILVER

PROVE = os.environ.get("MLGATES_PROVE") == "1"


def scored(ring, **how):
    return score(ring.registry, ring.store, ring.project.settings, ring.model, **how)


def keys(ring):
    rows = ring.store.read(FORECASTS).to_pylist()
    return collections.Counter((r["property_id"], r["play_date"], r["model_version"]) for r in rows)


def pipeline(ring, *more, crash=""):
    """Start the pipeline in a process of its own."""
    env = {**os.environ, "MLGATES_CRASH_AT": crash}
    script = str(suite.folder("pipelines") / "batch_score.py")
    command = [sys.executable, script, "--settings", str(ring.folder / "mlgates.toml"), "--model", ring.model, *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def few(ring, rows):
    """Keep the newest rows of the silver table only."""
    order = [("play_date", "descending"), ("property_id", "ascending")]
    ring.store.overwrite(SILVER, ring.store.read(SILVER).sort_by(order).slice(0, rows))


def test_scores_what_has_no_score(ring):
    """The tutorial's check: new rows, predictions present, the version that scored beside them; a second run adds none."""
    first = scored(ring)
    rows = ring.store.read(FORECASTS).to_pylist()
    assert first.rows == len(rows) == ring.store.read(SILVER).num_rows - first.unscorable
    assert {r["model_version"] for r in rows} == {"1"}
    assert all(r["predicted_revenue"] > 0 and r["scored_at"] for r in rows)
    again = scored(ring)
    assert (again.rows, again.before, again.logged) == (0, first.rows, 0)
    assert ring.store.read(PREDICTION_LOG).num_rows == first.rows == first.logged


def test_scores_equal_the_model(ring):
    few(ring, 300)
    scored(ring, batch_rows=70)
    source = ring.store.read(SILVER).to_pandas()
    expected = ring.registry.load(ring.registry.get(ring.model, "1")).predict(source)
    by_key = dict(zip(zip(source.property_id, source.play_date, strict=True), expected, strict=True))
    for row in ring.store.read(FORECASTS).to_pylist():
        assert row["predicted_revenue"] == by_key[row["property_id"], row["play_date"]]


def test_a_version_number_is_refused(ring):
    with pytest.raises(UsageProblem, match="never a version number"):
        scored(ring, stage="1")


def test_two_rows_with_one_key_are_refused(ring):
    table = ring.store.read(SILVER).slice(0, 5)
    ring.store.overwrite(SILVER, pa.concat_tables([table, table]))
    with pytest.raises(DataUnusable, match="two rows with the same property_id, play_date"):
        scored(ring)


def test_a_row_without_a_key_is_refused(ring):
    """It would match no score of its own, and so be scored by every run."""
    table = ring.store.read(SILVER).slice(0, 5)
    index = table.schema.get_field_index("property_id")
    keys = pa.array([None, *table["property_id"].to_pylist()[1:]], table.schema.field(index).type)
    ring.store.overwrite(SILVER, table.set_column(index, "property_id", keys))
    with pytest.raises(DataUnusable, match="1 rows have no property_id"):
        scored(ring)


@pytest.mark.prove
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_and_run_again(ring, point):
    killed_and_finished(ring, point)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment_and_run_again(ring, seed):
    """A moment within the first two seconds after it made the table, at forty commits."""
    few(ring, 200)
    killed = pipeline(ring, "--batch-rows", "5")
    while not ring.store.exists(FORECASTS) and killed.poll() is None:
        time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        killed.wait(timeout=random.Random(seed).uniform(0, 2))
    killed.kill()
    killed.communicate(timeout=60)
    done = scored(ring, batch_rows=70)
    assert done.rows + done.before == 200
    assert set(keys(ring).values()) == {1}
    logged = [r["request_id"] for r in ring.store.read(PREDICTION_LOG).to_pylist()]
    assert len(logged) == len(set(logged)) == len(keys(ring)) == 200


@pytest.mark.parametrize("point", ["score-after-append"])
def test_killed_where_it_hurts_and_run_again(ring, point):
    killed_and_finished(ring, point)


def killed_and_finished(ring, point):
    few(ring, 200)
    killed = pipeline(ring, "--batch-rows", "70", crash=point)
    killed.communicate(timeout=180)
    assert killed.returncode == -signal.SIGKILL
    done = scored(ring, batch_rows=70)
    assert done.rows + done.before == 200
    assert set(keys(ring).values()) == {1}
    assert len(keys(ring)) == 200
    logged = [r["request_id"] for r in ring.store.read(PREDICTION_LOG).to_pylist()]
    assert len(logged) == len(set(logged)) == 200


@pytest.mark.prove
def test_two_at_once(ring):
    few(ring, 400)
    both = [pipeline(ring, "--batch-rows", "50") for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    assert set(keys(ring).values()) == {1}
    assert len(keys(ring)) == 400
    logged = [r["request_id"] for r in ring.store.read(PREDICTION_LOG).to_pylist()]
    assert len(logged) == len(set(logged)) == 400


APPENDER = """
import sys, pyarrow as pa
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.tables import PREDICTION_LOG, SCHEMAS
store = Lakehouse(sys.argv[1])
for i in range(int(sys.argv[3])):
    row = {"request_id": f"{sys.argv[2]}-{i}", "prediction": 1.0}
    store.append(PREDICTION_LOG, pa.Table.from_pylist([row], schema=SCHEMAS[PREDICTION_LOG]))
"""


@pytest.mark.parametrize(("processes", "appends"), [(8, 100)] if PROVE else [(4, 15)])
def test_appends_from_many_processes_lose_nothing(tmp_path, processes, appends):
    """8 x 100 with MLGATES_PROVE=1: plain deltalake fails 21 of them."""
    store = Lakehouse(tmp_path)
    store.create(PREDICTION_LOG, SCHEMAS[PREDICTION_LOG])
    command = [sys.executable, "-c", APPENDER, str(tmp_path)]
    started = [subprocess.Popen([*command, str(p), str(appends)], stderr=subprocess.PIPE, text=True) for p in range(processes)]
    for process in started:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    found = store.read(PREDICTION_LOG, columns=["request_id"])["request_id"].to_pylist()
    assert len(found) == len(set(found)) == processes * appends
