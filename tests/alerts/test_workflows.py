"""The workflows that ship for a user's repository: linted, and their steps run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
SHIPPED = ["ml-promotion-gate.yml", "loop-test.yml", "champion-challenger.yml", "drift.yml", "batch-score.yml"]
BIN = Path(sys.executable).parent


def read(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text())


def steps(name: str, job: str) -> dict[str, str]:
    return {s["name"]: s["run"] for s in read(name)["jobs"][job]["steps"] if "run" in s}


def bash(script: str, folder: Path, *, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does: bash -e, with GITHUB_OUTPUT."""
    full = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(folder / "out"),
        "PIP_NO_INDEX": "1",
        **env,
    }
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(shell, cwd=folder, env=full, capture_output=True, text=True, check=False, timeout=timeout)


def test_actionlint_and_zizmor_have_nothing_to_say() -> None:
    paths = [str(FOLDER / name) for name in SHIPPED]
    lint = subprocess.run([BIN / "actionlint", *paths], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout
    audit = subprocess.run([BIN / "zizmor", "--offline", "-q", *paths], capture_output=True, text=True, check=False)
    assert audit.returncode == 0, audit.stdout


@pytest.mark.parametrize("name", SHIPPED)
def test_actions_are_pinned_and_rights_are_least(name) -> None:
    document = read(name)
    assert document["permissions"] == {}
    for job in document["jobs"].values():
        assert set(job["permissions"]) <= {"contents", "issues"}
        assert job["permissions"].get("contents", "read") == "read"
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])


@pytest.mark.parametrize(
    ("name", "cron"),
    [
        ("champion-challenger.yml", "30 2 * * *"),
        ("batch-score.yml", "30 3 * * *"),
        ("drift.yml", "0 4 * * *"),
        ("loop-test.yml", "0 6 * * 1"),
    ],
)
def test_schedules_are_the_tutorials(name, cron) -> None:
    assert read(name)[True]["schedule"] == [{"cron": cron}]  # YAML 1.1 reads `on` as true


@pytest.mark.parametrize(
    ("changes", "relevant", "gates", "passes"),
    [
        ("success", "true", "success", True),
        ("success", "false", "skipped", True),
        ("success", "true", "failure", False),
        ("success", "true", "skipped", False),
        ("success", "true", "cancelled", False),
        ("failure", "", "skipped", False),
        ("cancelled", "", "skipped", False),
        ("success", "", "skipped", False),
    ],
)
def test_the_required_check_passes_only_where_the_gates_did(tmp_path, changes, relevant, gates, passes) -> None:
    job = read("ml-promotion-gate.yml")["jobs"]["verdict"]
    assert job["name"] == "ML Model Promotion Gate"
    assert job["if"] == "always()"
    assert set(job["needs"]) == {"changes", "gates"}
    script = steps("ml-promotion-gate.yml", "verdict")["Pass only when the gates passed, or had nothing to judge"]
    done = bash(script, tmp_path, CHANGES=changes, RELEVANT=relevant, GATES=gates)
    assert (done.returncode == 0) == passes


def register(folder: Path) -> None:
    """A holdout and a registry with one good version in it."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    from pytest_mlgates.ports import Column
    from pytest_mlgates.registry.tracking import MlflowTracker

    noise = np.random.default_rng(3)
    frame = pd.DataFrame({"x": noise.normal(size=600)})
    frame["y"] = 3 * frame["x"] + noise.normal(size=600) * 0.3
    frame.iloc[300:].to_csv(folder / "holdout.csv", index=False)
    model = LinearRegression().fit(frame[["x"]].iloc[:300], frame["y"].iloc[:300])
    with MlflowTracker(f"sqlite:///{folder}/mlflow.db").run("demand", "one", tags={}) as run:
        run.register(model, "demand", inputs=(Column("x", "double"),), requirements=["scikit-learn"], tags={})


@pytest.fixture
def repository(tmp_path, migrated) -> Path:
    """A user's repository: settings, a holdout, a registry with one good version, and a pull request on top."""
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "mlgates.toml").write_text(
        f'tracking_uri = "sqlite:///{folder}/mlflow.db"\n[models."demand"]\ntask = "regression"\ntarget = "y"\n'
        'holdout = "holdout.csv"\n[models."demand".gates]\nperformance = { floor = 0.5 }\n'
        "latency = { p99_max_ms = 20000, calls = 300, max_calls = 300 }\n"
    )
    shutil.copy(migrated, folder / "mlflow.db")
    register(folder)
    git = "git -c user.name=t -c user.email=t@example.org"
    done = bash(f"git init -q . && git add mlgates.toml holdout.csv && {git} commit -qm base && git tag base", folder)
    assert done.returncode == 0, done.stderr
    return folder


def pull_request(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    assert bash(f"git add {path} && git -c user.name=t -c user.email=t@example.org commit -qm change", folder).returncode == 0


@pytest.mark.slow(45)
def test_each_step_of_the_promotion_gate_runs_as_it_is_written(repository) -> None:
    look = steps("ml-promotion-gate.yml", "changes")["Look at the changed paths"]
    gates = steps("ml-promotion-gate.yml", "gates")
    env = {"BASE": "base", "MODEL_NAME": "demand", "MODEL_VERSION": "latest"}
    settings = (repository / "mlgates.toml").read_text()

    pull_request(repository, "docs/readme.md", "words")
    assert bash(look, repository, **env).returncode == 0
    assert (repository / "out").read_text() == "relevant=false\n"
    pull_request(repository, "pipelines/use.py", "uri = 'models:/demand/Production'\n")
    assert bash(look, repository, **env).returncode == 0
    assert (repository / "out").read_text().splitlines()[-1] == "relevant=true"

    assert bash(gates["Install"], repository).returncode == 0
    assert bash(gates["No threshold is loosened"], repository, **env).returncode == 0
    assert bash(gates["No consumer pins a version"], repository, **env).returncode == 0

    pull_request(repository, "mlgates.toml", settings.replace("floor = 0.5", "floor = 0.1"))
    assert bash(gates["No threshold is loosened"], repository, **env).returncode == 1
    pull_request(repository, "pipelines/use.py", "uri = 'models:/demand/3'\n")
    assert bash(gates["No consumer pins a version"], repository, **env).returncode == 1

    cut = bash(gates["Keep the evidence"], repository, **env)
    assert cut.returncode == 1
    assert "the gates did not come to their end" in cut.stderr
    judged = bash(gates["Judge by the settings of the target branch"], repository, **env)
    assert (repository / "mlgates.base.toml").read_text() == settings
    assert (repository / "gate-report" / "gates.json").is_file(), judged.stdout + judged.stderr
    kept = bash(gates["Keep the evidence"], repository, **env)
    assert kept.returncode == 0, kept.stderr
    bad = judged.stdout.count("INCONCLUSIVE") + judged.stdout.count("FAILED")
    assert (judged.returncode == 0) == ("::error" not in kept.stdout)
    assert ("::error title=ML gate" in kept.stdout) == bool(bad)
    assert "demand" in (repository / "gate-report" / "evidence-v1.json").read_text()


def test_the_loop_workflow_fails_with_its_loop_and_opens_one_issue(tmp_path) -> None:
    """The loop itself is run by its own tests; here its step fails on a project that has no such model."""
    job = steps("loop-test.yml", "loop")
    assert bash(job["Install"], tmp_path).returncode == 0
    done = bash(job["Close the loop"], tmp_path, MODEL_NAME="nosuch")
    assert done.returncode == 4
    assert (tmp_path / "loop-report" / "loop.txt").is_file()
    assert bash(steps("loop-test.yml", "report")["Say so"], tmp_path, LOOP="failure").returncode == 1
    assert bash(steps("loop-test.yml", "report")["Say so"], tmp_path, LOOP="success").returncode == 0
    fake = tmp_path / "bin" / "gh"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@" >> "$GH_LOG"\n[ "$1 $2" = "issue list" ] && echo "$GH_OPEN" || true\n')
    fake.chmod(0o755)
    opener = steps("loop-test.yml", "report")["Open an issue when the loop is broken"]
    for already, created in (("0", True), ("1", False)):
        log = tmp_path / f"gh-{already}"
        env = {
            "PATH": f"{fake.parent}:{os.environ['PATH']}",
            "GH_LOG": str(log),
            "GH_OPEN": already,
            "RUN": "https://example.org/run",
        }
        full = {**os.environ, **env}
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", opener], env=full, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert ("issue create" in log.read_text()) == created
