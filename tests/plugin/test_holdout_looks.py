"""How often a holdout was looked at, what it was compared with in training, and that predictions on it are made once."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.plugin.conftest import BARE, GOOD, SHUFFLED, rows

NO_LATENCY = ("-k", "performance or holdout", "-v")


def judged(pytester, gate):
    found = json.loads((pytester.path / "out.json").read_text())["results"]
    return {r["version"]: r for r in found if r["gate"] == gate}


def test_every_version_of_a_run_and_of_earlier_runs_is_a_look(gates, demand, pytester):
    """The best of several is chosen when all are known, so each of them is held to the level of all."""
    from pytest_mlgates.registry.store import MlflowRegistry
    from pytest_mlgates.services.evaluate import LOOK_TAG

    registry = MlflowRegistry(demand.uri)

    def seen():
        return {v.version for v in registry.versions("demand") if any(k.startswith(LOOK_TAG) for k in v.tags)}

    before = seen()
    result = gates("--model-name", "demand", "--model-version", f"{GOOD},{SHUFFLED}", *NO_LATENCY, "--mlgates-json", "out.json")
    expected = len(before | {str(GOOD), str(SHUFFLED)})
    assert expected >= 2
    for found in judged(pytester, "performance").values():
        assert found["details"]["looks"] == expected
        assert found["details"]["pass_confidence"] == pytest.approx(1 - 0.05 / expected)
    result.stdout.fnmatch_lines([f"*look {expected} at this holdout*"])
    # a part of the suite stores no evidence of a version without a fault; somebody has seen its numbers all the same
    assert seen() >= before | {str(GOOD), str(SHUFFLED)}
    gates("--model-name", "demand", "--model-version", BARE, *NO_LATENCY, "--mlgates-json", "out.json")
    assert judged(pytester, "performance")[str(BARE)]["details"]["looks"] == len(seen())
    again = len(seen())
    gates("--model-name", "demand", "--model-version", BARE, *NO_LATENCY, "--mlgates-json", "out.json")
    assert judged(pytester, "performance")[str(BARE)]["details"]["looks"] == again  # the same version is no new candidate


def counting_model(path):
    """A model that writes a line for each call on the whole holdout; its class is local, so that it is stored by value."""

    class Counting:
        def predict(self, x):
            if len(x) > 1000:
                with Path(path).open("a", encoding="utf-8") as file:
                    file.write("pass\n")
            return (100 - 5 * x["price"] + 20 * x["promo"]).to_numpy()

    return Counting()


def register(demand, name, model, artifacts):
    from pytest_mlgates.registry.store import MlflowRegistry, mlflow

    registry = MlflowRegistry(demand.uri)
    frame = rows(50, 7)[["price", "promo"]]
    mlflow.set_tracking_uri(demand.uri)
    with mlflow.start_run(experiment_id=registry.client.get_experiment_by_name("/Shared/demand").experiment_id) as run:
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(frame, np.zeros(2)),
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
    registry.client.create_registered_model(name)
    version = registry.get(name, str(registry.client.create_model_version(name, info.model_uri, run.info.run_id).version))
    for path, data in artifacts.items():
        registry.log_artifact(version, path, data)


def parquet(frame):
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.slow
def test_predictions_are_made_once_by_all_workers_and_used_again(gates, demand, pytester, tmp_path):
    calls = tmp_path / "calls.txt"
    register(demand, "counted", counting_model(str(calls)), {})
    pytester.makefile(".toml", mlgates=demand.settings.replace('"demand*"', '"counted"'))
    for options in (("-n", "2"), ()):  # two workers, then this process
        gates("--model-name", "counted", "--model-version", "1", *options, "-k", "performance or calibration")
        assert calls.read_text() == "pass\n"


def test_time_order_and_train_gap_are_named_findings_of_the_run(gates, demand, pytester):
    """What the run recorded of its training is held against the holdout of today."""
    from sklearn.linear_model import LinearRegression

    train = rows(500, 1)
    model = LinearRegression().fit(train[["price", "promo"]], train["y"])
    late = pd.DataFrame({"row_hash": np.arange(500), "price": train["price"] + 1e6})
    told = json.dumps({"train": {"r2": 0.999999 * 5}}).encode()  # no R², and far above what the holdout gives
    register(demand, "leaky", model, {"mlgates/training_rows.parquet": parquet(late), "mlgates/training_metrics.json": told})
    plain = demand.settings.replace('"demand*"', '"leaky"')
    timed = plain + 'holdout = { time_column = "price" }\n'
    for text, findings in ((plain, {"shared_rows", "train_gap"}), (timed, {"shared_rows", "train_gap", "time_order"})):
        pytester.makefile(".toml", mlgates=text)
        gates("--model-name", "leaky", "--model-version", "1", "-k", "holdout", "-v", "--mlgates-json", "out.json")
        found = judged(pytester, "holdout")["1"]
        assert set(found["details"]["findings"]) == findings
        assert found["verdict"] == "fail"
        assert "overfit or leaked" in found["hint"]
    assert "precedes the training data" in found["hint"]
    pytester.makefile(".toml", mlgates=plain + 'holdout = { time_column = "promo" }\n')
    gates("--model-name", "leaky", "--model-version", "1", "-k", "holdout", "-v", "--mlgates-json", "out.json")
    assert "stored no such column" in judged(pytester, "holdout")["1"]["summary"]
