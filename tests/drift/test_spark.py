"""The Spark engine gives the local one's profile: on pysail, and on PySpark local where Java and a Spark distribution are.

``pytest -m spark`` alone (or MLGATES_PROVE=1) takes 5,000,000 rows, the default suite 200,000. A distribution is found by
SPARK_HOME, or as the full ``pyspark`` package; ``apt-get install default-jre-headless`` gives the Java.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pytest_mlgates.drift import compare
from pytest_mlgates.engines.local import LocalEngine
from pytest_mlgates.tables import SILVER

pytestmark = [
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def spark_home():
    """A Spark distribution, or None."""
    found = importlib.util.find_spec("pyspark")
    places = [os.environ.get("SPARK_HOME"), *(found.submodule_search_locations if found else [])]
    return next((Path(p) for p in places if p and (Path(p) / "jars").is_dir()), None)


@contextlib.contextmanager
def pyspark_server(folder):
    """A Spark Connect server of PySpark local, in a JVM of its own; yields its address."""
    home = spark_home()
    if not shutil.which("java") or home is None:
        pytest.skip(
            "needs java and a Spark distribution: apt-get install default-jre-headless; pip download pyspark; SPARK_HOME=…"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.port": port, "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false",
        "spark.driver.memory": "2g", "spark.connect.grpc.maxInboundMessageSize": 512 * 1024 * 1024,
        "spark.sql.warehouse.dir": folder / "warehouse",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    command = [
        home / "bin" / "spark-submit",
        "--master",
        "local[2]",
        "--class",
        "org.apache.spark.sql.connect.service.SparkConnectServer",
    ]
    env = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen([*command, *options], env=env, stdout=log, stderr=log, cwd=folder)
        try:
            deadline = time.monotonic() + 120
            while socket.socket().connect_ex(("127.0.0.1", port)):
                running = server.poll() is None and time.monotonic() < deadline
                assert running, (folder / "server.log").read_text()[-2000:]
                time.sleep(0.2)
            yield f"sc://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


@pytest.fixture(scope="module")
def row_count(request):
    full = request.config.option.markexpr.strip() == "spark" or os.environ.get("MLGATES_PROVE") == "1"
    return 5_000_000 if full else 200_000


@pytest.fixture(scope="module", params=["pysail", "pyspark"])
def session(request, tmp_path_factory):
    pytest.importorskip("pyspark", reason="pip install 'pytest-mlgates[spark]'")
    from pytest_mlgates.engines.spark import start_session

    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        address = None
        if request.param == "pyspark":
            address = stack.enter_context(pyspark_server(tmp_path_factory.mktemp("spark")))
        found = start_session(address)
        stack.callback(found.stop)
        yield found


@pytest.fixture(scope="module")
def paths(tmp_path_factory, row_count):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(9)
    for name, rows, shift in (("then", row_count, 0.0), ("now", row_count // 4, 0.2)):
        table = pa.table(
            {
                "smooth": rng.normal(shift, 1, rows),
                "zeros": np.where(rng.random(rows) < 0.5, 0.0, rng.exponential(size=rows)),
                "gaps": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
                "count": rng.poisson(3, rows),
                "colour": rng.choice(list("abcd"), rows),
            }
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=row_count // 10)
    return str(folder / "then.parquet"), str(folder / "now.parquet")


def test_profiles_are_the_same(session, paths):
    """Counts are equal; sums agree to the rounding of their order."""
    from pytest_mlgates.engines.spark import SparkEngine

    here = LocalEngine().profile(paths[0])
    there = SparkEngine(session).profile(paths[0], None, here.edges)
    assert there.rows == here.rows
    for name in ("smooth", "zeros", "gaps", "count"):
        a, b = here.columns[name], there.columns[name]
        assert np.array_equal(a.less, b.less)
        assert np.array_equal(a.equal, b.equal)
        assert (a.missing, a.infinite) == (b.missing, b.infinite)
        assert np.allclose(a.sums, b.sums, rtol=1e-9, atol=1e-9)
        assert a.moments.mean == pytest.approx(b.moments.mean, rel=1e-9, abs=1e-12)
    assert there.columns["colour"].counts == here.columns["colour"].counts


def test_reports_agree(session, paths):
    from pytest_mlgates.engines.spark import SparkEngine

    here = LocalEngine().profile(paths[0])
    local = compare(here, paths[1])
    spark = compare(here, paths[1], engine=SparkEngine(session))
    assert [f.verdict for f in spark.features] == [f.verdict for f in local.features]
    for a, b in zip(local.features, spark.features, strict=True):
        assert (a.psi, a.ks, a.chi2, a.js) == (b.psi, b.ks, b.chi2, b.js)
    alone = compare(*paths, engine=SparkEngine(session))  # edges chosen by Spark as well
    assert [f.feature for f in alone.drifted] == ["smooth"]


def test_batch_scores_are_the_models(session, ring, row_count):
    """``mlflow.pyfunc.spark_udf`` on the version that was resolved: each row once, its own score, and once in the log."""
    from pytest_mlgates.engines.spark import spark_predict
    from pytest_mlgates.services.score import score
    from pytest_mlgates.tables import FORECASTS, PREDICTION_LOG

    many(ring, row_count)
    uri = ring.project.settings.tracking_uri
    done = score(
        ring.registry, ring.store, ring.project.settings, ring.model, batch_rows=max(row_count // 5, 50_000),
        engine=lambda v: spark_predict(session, uri, f"models:/{v.name}/{v.version}"),
    )  # fmt: skip
    assert (done.rows, done.unscorable, done.logged) == (row_count, 0, row_count)
    found = ring.store.read(FORECASTS, columns=["property_id", "play_date", "predicted_revenue"]).to_pandas()
    assert len(found.drop_duplicates(["property_id", "play_date"])) == row_count
    logged = ring.store.read(PREDICTION_LOG, columns=["request_id"])
    assert pc.count_distinct(logged["request_id"]).as_py() == logged.num_rows == row_count
    some = found.sample(20_000, random_state=1).rename(columns={"predicted_revenue": "score"})
    rows = ring.store.read(SILVER).to_pandas().merge(some, on=["property_id", "play_date"])
    expected = ring.registry.load(ring.registry.get(ring.model, "1")).predict(rows)
    assert np.allclose(rows["score"], expected)


def many(ring, row_count):
    """Make the silver table this long: its rows again and again, as other properties."""
    rows = ring.store.read(SILVER)
    rows = rows.filter(pc.is_valid(rows["lag_30_revenue"]))
    table = pa.concat_tables([rows] * -(-row_count // rows.num_rows)).slice(0, row_count)
    names = pc.add(table["property_id"], pa.array(1_000_000 * (np.arange(row_count) // rows.num_rows)))
    ring.store.overwrite(SILVER, table.set_column(table.column_names.index("property_id"), "property_id", names))
