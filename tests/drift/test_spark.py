"""The Spark engine gives the local one's profile; on pysail, and on any Spark Connect server in SPARK_REMOTE."""

import os
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_mlgates.drift import compare
from pytest_mlgates.engines.local import LocalEngine

pytestmark = [
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
PROVE = os.environ.get("MLGATES_PROVE") == "1"
ROWS = 5_000_000 if PROVE else 200_000


@pytest.fixture(scope="module")
def session():
    pytest.importorskip("pyspark", reason="pip install 'pytest-mlgates[spark]'")
    from pytest_mlgates.engines.spark import start_session

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = start_session()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(9)
    for name, rows, shift in (("then", ROWS, 0.0), ("now", ROWS // 4, 0.2)):
        table = pa.table(
            {
                "smooth": rng.normal(shift, 1, rows),
                "zeros": np.where(rng.random(rows) < 0.5, 0.0, rng.exponential(size=rows)),
                "gaps": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
                "count": rng.poisson(3, rows),
                "colour": rng.choice(list("abcd"), rows),
            }
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=ROWS // 10)
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


def test_batch_scores_are_the_models(session, ring):
    """``mlflow.pyfunc.spark_udf`` on the version that was resolved; order kept, each row once."""
    from pytest_mlgates.engines.spark import spark_predict
    from pytest_mlgates.services.score import score
    from pytest_mlgates.tables import FORECASTS, SILVER

    rows = ring.store.read(SILVER).num_rows
    uri = ring.project.settings.tracking_uri
    done = score(
        ring.registry, ring.store, ring.project.settings, ring.model, log=False,
        engine=lambda v: spark_predict(session, uri, f"models:/{v.name}/{v.version}"),
    )  # fmt: skip
    source = ring.store.read(SILVER).to_pandas().dropna(subset=["lag_30_revenue"])
    expected = pd.Series(
        ring.registry.load(ring.registry.get(ring.model, "1")).predict(source),
        index=pd.MultiIndex.from_frame(source[["property_id", "play_date"]]),
    )
    found = ring.store.read(FORECASTS).to_pandas().set_index(["property_id", "play_date"])["predicted_revenue"]
    assert done.rows == len(found) == rows - done.unscorable
    assert np.allclose(found, expected.reindex(found.index))
