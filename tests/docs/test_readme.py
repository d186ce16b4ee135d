"""Every command in README.md, run as it is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands():
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def churn(made_once, tmp_path_factory, migrated):
    """The project that the README describes: its own settings, a registry with three versions, a holdout file."""
    folder = tmp_path_factory.mktemp("churn") / "project"
    shutil.copytree(made_once("churn", lambda folder: build(folder, migrated)), folder)
    return folder


def build(folder, migrated):
    from sklearn.linear_model import LogisticRegression

    from pytest_mlgates.checks import row_hashes
    from pytest_mlgates.registry.store import MlflowRegistry, mlflow

    (folder / "mlgates.toml").write_text("".join(blocks("toml")))
    rng = np.random.default_rng(4)
    x = pd.DataFrame({"tenure": rng.normal(size=6000), "calls": rng.normal(size=6000)})
    y = (rng.random(6000) < 1 / (1 + np.exp(-(x["calls"] - 1.5 * x["tenure"])))).astype(int)
    x[3000:].assign(churned=y[3000:], plan=rng.choice(["basic", "pro"], 3000)).to_parquet(folder / "holdout.parquet")
    shutil.copy(migrated, folder / "mlflow.db")
    registry = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_tracking_uri(registry.tracking_uri)
    experiment = registry.client.create_experiment("churn", artifact_location=(folder / "artifacts").as_uri())
    registry.client.create_registered_model("churn")
    for strength in (0.001, 0.1, 1.0):
        model = LogisticRegression(C=strength).fit(x[:3000], y[:3000])
        with mlflow.start_run(experiment_id=experiment) as run:
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=mlflow.models.infer_signature(x, np.zeros(1)),
                pip_requirements=["scikit-learn"],
                serialization_format="cloudpickle",
                pyfunc_predict_fn="predict_proba",
            )
            mlflow.log_metric("auc", 0.8)
            hashes = pd.DataFrame({"row_hash": row_hashes(x[:3000].assign(churned=y[:3000]))})
            hashes.to_parquet(folder / "training_rows.parquet")
            mlflow.log_artifact(str(folder / "training_rows.parquet"), "mlgates")
        registry.client.create_model_version("churn", info.model_uri, run.info.run_id)
    registry.set_stage("churn", "1", "Production")


def shell(command, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hidden = {"MODEL_NAME", "MODEL_VERSION", "MLFLOW_TRACKING_URI", "PYTEST_ADDOPTS"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        command, shell=True, cwd=folder, env={**environment, "PATH": path, "MLGATES_CACHE": str(folder / "cache")},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.slow(70)
def test_the_commands_work_as_they_are_written(churn):
    """In order, in the project that the README describes."""
    own = [c for c in commands() if not c.startswith("make ")]
    assert len(own) == 6
    said = {}
    for command in own:
        done = shell(command, churn)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    assert "churn v3" in said["mlgates registry churn"]
    assert "Staging" in said["mlgates registry churn"]


def test_the_two_commands_are_targets_of_the_makefile():
    """`make -n` knows them; the ring itself is run by tests/ring."""
    for target in [c for c in commands() if c.startswith("make ")]:
        done = subprocess.run([*target.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_command_that_is_named_exists():
    """Inline `mlgates …` words are commands of the command line."""
    from pytest_mlgates.cli import COMMANDS, cli

    named = {word for text in re.findall(r"`mlgates ([a-z]+)", README) for word in [text]}
    assert named <= set(COMMANDS)
    assert set(cli.list_commands(None)) == set(COMMANDS)


def test_every_option_and_fixture_that_is_named_exists():
    """What the README promises is in the plugin."""
    from pytest_mlgates import fixtures, plugin

    options = {name for name, _ in plugin._FLAGS}
    assert {o for o in re.findall(r"--m[a-z-]+", README) if o != "--mlgates-"} <= options
    for name in ("candidate", "holdout", "predictions", "baseline", "thresholds", "judge"):
        assert hasattr(fixtures, name)
