"""Rows wherever they lie: a Delta table with deletion vectors, Parquet, a frame; and nobody reads a table's files."""

import json
import re
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_mlgates.drift import compare
from pytest_mlgates.engines.local import LocalEngine, table_source
from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.lakehouse import Lakehouse

PACKAGE = Path(__file__).resolve().parents[2] / "pytest_mlgates"


def test_all_sources_give_one_profile(tmp_path):
    rng = np.random.default_rng(2)
    table = pa.table({"v": rng.normal(size=20_000), "c": rng.choice(["x", "y"], 20_000)})
    store = Lakehouse(tmp_path)
    store.overwrite("lh_gold.rows", table)
    pq.write_table(table, tmp_path / "rows.parquet")
    edges = LocalEngine().profile(table).edges
    sources = (table, table.to_pandas(), tmp_path / "rows.parquet", table_source(store, "lh_gold.rows"))
    found = [LocalEngine().profile(s, None, edges).columns for s in sources]
    for columns in found[1:]:
        assert np.array_equal(columns["v"].less, found[0]["v"].less)
        assert columns["c"].counts == found[0]["c"].counts


def test_a_later_write_does_not_change_a_source(tmp_path):
    """Both passes over a table read the version that it had at first."""
    store = Lakehouse(tmp_path)
    store.overwrite("lh_gold.rows", pa.table({"v": np.arange(500.0)}))
    source = table_source(store, "lh_gold.rows")
    store.overwrite("lh_gold.rows", pa.table({"v": np.arange(9.0)}))
    assert LocalEngine().profile(source).rows == 500


def test_nothing_reads_the_files_behind_a_table():
    """`file_uris`, `to_pyarrow_dataset` and `to_pandas` of a Delta handle bring deleted rows back, or refuse such a table."""
    banned = re.compile(r"\.file_uris\(|\.files\(\)|to_pyarrow_dataset\(|to_pyarrow_table\(|DeltaTable\([^)]*\)\.to_pandas\(")
    hits = [str(p) for p in PACKAGE.rglob("*.py") if banned.search(p.read_text("utf-8"))]
    assert hits == []


def test_deleted_rows_stay_deleted(tmp_path):
    """A table whose log marks rows 0, 2 and 4 of its file deleted by a deletion vector, as Databricks and Fabric write it."""
    store = Lakehouse(tmp_path)
    store.overwrite("lh_gold.rows", pa.table({"v": np.arange(10.0)}))
    log = tmp_path / "lh_gold" / "rows" / "_delta_log"
    lines = [json.loads(line) for line in (log / f"{0:020d}.json").read_text().splitlines()]
    add = next(line["add"] for line in lines if "add" in line)
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
    vector = deletion_vector(tmp_path / "lh_gold" / "rows", [0, 2, 4])
    remove = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    actions = [{"protocol": protocol}, {"remove": remove}, {"add": {**add, "deletionVector": vector}}]
    (log / f"{1:020d}.json").write_text("\n".join(json.dumps(a) for a in actions) + "\n")
    assert sorted(store.read("lh_gold.rows")["v"].to_pylist()) == [1, 3, 5, 6, 7, 8, 9]
    assert LocalEngine().profile(table_source(store, "lh_gold.rows")).rows == 7


def deletion_vector(folder, rows):
    """Write a deletion vector file (Delta protocol: a 64-bit roaring bitmap of one 32-bit array container)."""
    import struct
    import zlib

    container = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + b"".join(struct.pack("<H", r) for r in rows)
    bitmap = struct.pack("<IQI", 1681511377, 1, 0) + container
    identifier = uuid.uuid4()
    data = b"\x01" + struct.pack(">I", len(bitmap)) + bitmap + struct.pack(">I", zlib.crc32(bitmap))
    (folder / f"deletion_vector_{identifier}.bin").write_bytes(data)
    return {
        "storageType": "p", "pathOrInlineDv": (folder / f"deletion_vector_{identifier}.bin").as_uri(), "offset": 1,
        "sizeInBytes": len(bitmap), "cardinality": len(rows),
    }  # fmt: skip


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataUnusable, match="no Parquet file there"):
        compare(tmp_path / "nothing.parquet", tmp_path / "nothing.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DataUnusable, match="cannot be read as Parquet"):
        compare(tmp_path / "bad.parquet", tmp_path / "bad.parquet")
