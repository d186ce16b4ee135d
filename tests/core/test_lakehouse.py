"""Delta tables: names, schemas, compare-and-swap, deletion of nothing."""

import multiprocessing

import pyarrow as pa
import pytest

from pytest_mlgates import tables
from pytest_mlgates.config import ModelSettings
from pytest_mlgates.errors import DataUnusable, LakehouseError, WriteConflict
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.rows import row_keys, table_digest
from pytest_mlgates.services.evaluate import load_holdout

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


@pytest.fixture
def lakehouse(tmp_path):
    return Lakehouse(tmp_path / "lakehouse")


def test_append_fits_columns_and_reads_back(lakehouse):
    lakehouse.create("lh_gold.t", SCHEMA)
    lakehouse.append("lh_gold.t", pa.table({"n": pa.array([1, 2], pa.int32())}))
    lakehouse.append("lh_gold.t", pa.table({"text": ["a"], "n": [3]}))
    assert lakehouse.read("lh_gold.t", where="n > 1").num_rows == 2
    assert lakehouse.read("lh_gold.t").schema.field("text").type == pa.string()
    assert lakehouse.read("lh_gold.t", version=1).num_rows == 2
    assert sum(b.num_rows for b in lakehouse.batches("lh_gold.t", columns=["n"])) == 3
    assert lakehouse.tables() == ["lh_gold.t"]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda lh: lh.read("lh_gold.tt"), "did you mean 'lh_gold.t'"),
        (lambda lh: lh.read("lh_gold.t", columns=["nn"]), "did you mean 'n'"),
        (lambda lh: lh.append("lh_gold.t", pa.table({"m": [1]})), "no column 'm'"),
        (lambda lh: lh.append("lh_gold.t", pa.table({"n": ["x"]})), "lh_gold.t.n is int64, got string"),
        (lambda lh: lh.read("../../etc/passwd"), "not a table name"),
        (lambda lh: lh.read("lh_gold.t", version=7), "has no version 7; the newest is 0"),
        (lambda lh: lh.read("lh_gold.t", version=10**30), "has no version 10+; the newest is 0"),
        (lambda lh: lh.read("lh_gold.t", where="nosuch = 1"), "cannot read lh_gold.t"),
    ],
)
def test_mistakes_are_named(lakehouse, action, message):
    lakehouse.create("lh_gold.t", SCHEMA)
    with pytest.raises(LakehouseError, match=message):
        action(lakehouse)


def test_a_number_is_taken_once(lakehouse):
    lakehouse.create("lh_gold.t", SCHEMA)
    lakehouse.append("lh_gold.t", pa.table({"n": [1]}), transaction=("log", 1))
    with pytest.raises(WriteConflict, match="log is already at 1"):
        lakehouse.append("lh_gold.t", pa.table({"n": [1]}), transaction=("log", 1))
    assert lakehouse.transaction("lh_gold.t", "log") == 1
    assert lakehouse.read("lh_gold.t").num_rows == 1


def _create_and_append(root, worker):
    lakehouse = Lakehouse(root)
    lakehouse.create("lh_gold.t", SCHEMA)
    for n in range(5):
        lakehouse.append("lh_gold.t", pa.table({"n": [worker * 100 + n]}))


def test_several_processes_create_and_append_without_loss(lakehouse):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_create_and_append, args=(lakehouse.root, w)) for w in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [w.exitcode for w in workers] == [0] * 4
    assert sorted(lakehouse.read("lh_gold.t").column("n").to_pylist()) == [w * 100 + n for w in range(4) for n in range(5)]


def test_every_table_can_be_created_and_append_only_ones_say_so(lakehouse):
    for name, schema in tables.SCHEMAS.items():
        lakehouse.create(name, schema, append_only=name in tables.APPEND_ONLY)
        lakehouse.create(name, schema)  # silent the second time
    assert set(lakehouse.tables()) == set(tables.SCHEMAS)


def test_a_digest_is_of_the_rows_not_of_their_order():
    frame = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}).to_pandas()
    assert table_digest(frame) == table_digest(frame.iloc[::-1].reset_index(drop=True)[["b", "a"]])
    assert table_digest(frame) != table_digest(frame.assign(a=[1, 2, 4]))
    assert row_keys(frame)[0] == row_keys(frame.iloc[[0]])[0]


@pytest.mark.parametrize("pinned", ["x", "²", "-1", "9" * 5000])
def test_what_no_table_can_have_as_its_version_is_refused_before_it_is_read(lakehouse, tmp_path, pinned):
    lakehouse.create("lh_gold.t", SCHEMA)
    settings = ModelSettings(task="regression", target="n", holdout=f"lh_gold.t@{pinned}")
    with pytest.raises(DataUnusable, match="is not a table version"):
        load_holdout(lakehouse, settings, tmp_path)
