"""The endpoint's answers are MLflow's own, to the last bit, whichever way they are computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pytest_mlgates.endpoint.schema import ModelRefused, Rows
from pytest_mlgates.endpoint.scorer import Scorer
from pytest_mlgates.registry.store import MlflowRegistry
from tests.endpoint.conftest import FULL
from tests.endpoint.serving_project import mixed_rows, rows

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = 10_000 if FULL else 1_500
ONE_BY_ONE = 10_000 if FULL else 100
WAYS = {"ridge": "kernel", "forest": "kernel", "boosting": "kernel", "mixed": "native"}


@pytest.fixture(scope="module")
def scorers(settings):
    registry = MlflowRegistry(f"sqlite:///{settings.parent / 'mlflow.db'}")
    made = {}
    for name in WAYS:
        predictor = registry.load(registry.get(name, "1"))
        scorer = Scorer(predictor, name, "1")
        scorer.prepare()
        made[name] = (scorer, predictor.pyfunc)
    return made


def random_rows(name: str, n: int) -> pd.DataFrame:
    frame = mixed_rows(n, 77) if name == "mixed" else rows(n, 77)
    if name == "boosting":
        frame.loc[np.random.default_rng(3).random(n) < 0.1, "lag_30_revenue"] = np.nan
    return frame


def values(frame: pd.DataFrame) -> list[list[object]]:
    return [list(row) for row in frame.itertuples(index=False, name=None)]


@pytest.mark.parametrize("name", WAYS)
def test_each_kind_of_model_takes_its_fastest_right_way(scorers, name):
    assert scorers[name][0].way.single == WAYS[name]


@pytest.mark.parametrize("name", WAYS)
def test_single_rows_equal_pyfunc_on_single_rows(scorers, name):
    scorer, pyfunc = scorers[name]
    frame = random_rows(name, ONE_BY_ONE)
    own = [scorer.score(Rows(scorer.schema.names, [row]))[0] for row in values(frame)]
    theirs = [float(pyfunc.predict(frame.iloc[i : i + 1])[0]) for i in range(len(frame))]
    assert own == theirs


@pytest.mark.parametrize("name", ["forest", "boosting"])
def test_single_rows_of_trees_equal_pyfunc_on_the_whole_batch(scorers, name):
    scorer, pyfunc = scorers[name]
    frame = random_rows(name, ROWS)
    own = [scorer.score(Rows(scorer.schema.names, [row]))[0] for row in values(frame)]
    assert own == pyfunc.predict(frame).tolist()


@pytest.mark.parametrize("name", WAYS)
def test_batches_equal_pyfunc_on_the_same_batch(scorers, name):
    scorer, pyfunc = scorers[name]
    frame = random_rows(name, ROWS)
    assert scorer.score(Rows(scorer.schema.names, values(frame))) == pyfunc.predict(frame).tolist()


def test_what_cannot_take_the_fast_path_says_so_in_the_log(settings, caplog):
    registry = MlflowRegistry(f"sqlite:///{settings.parent / 'mlflow.db'}")
    with caplog.at_level("WARNING", "pytest_mlgates.endpoint"):
        Scorer(registry.load(registry.get("mixed", "1")), "mixed", "1").prepare()
    assert "no fast path: the signature has string columns" in caplog.text


@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_a_missing_value_that_the_model_refuses_is_refused_on_the_fast_path_too(scorers, name):
    scorer, _ = scorers[name]
    row = [1, 0, 0, float("nan"), 4e5]
    if name == "forest":  # this scikit-learn version lets forests see NaN only where they were trained with it
        row[3] = float("inf")
    with pytest.raises(ModelRefused):
        scorer.score(Rows(scorer.schema.names, [row]))


def test_a_kernel_that_is_wrong_is_not_used(settings, monkeypatch):
    from pytest_mlgates.endpoint import kernels

    registry = MlflowRegistry(f"sqlite:///{settings.parent / 'mlflow.db'}")
    right = kernels.compile_kernel

    def off_by_one_bit(model):
        kernel = right(model)

        def wrong(row):
            value = kernel(row)
            return None if value is None else float(np.nextafter(value, np.inf))

        return wrong

    monkeypatch.setattr(kernels, "compile_kernel", off_by_one_bit)
    scorer = Scorer(registry.load(registry.get("ridge", "1")), "ridge", "1")
    assert scorer.prepare().single == "native"
    assert "differs from pyfunc" in scorer.way.reason
