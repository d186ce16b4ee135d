"""``pytest --mlgates-loop`` as a user runs it, on a small project that has everything a quickstart leaves.

One run with the worst of the faults by default; with ``MLGATES_PROVE=1`` each fault and each kind of drift.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlgates import suite
from pytest_mlgates.wiring import Project

from .test_workflows import bash, steps

MODEL = "casino-slot-revenue-forecast-challenger"
BASELINE = "casino-slot-revenue-forecast-baseline"
PROVE = bool(os.environ.get("MLGATES_PROVE"))
SETTINGS = """
tracking_uri = "sqlite:///mlflow.db"
lakehouse = "lakehouse"
[models."casino-slot-revenue-forecast-*"]
task = "regression"
target = "revenue"
holdout = "lh_gold.slot_revenue_holdout"
baseline = "models:/casino-slot-revenue-forecast-baseline/Production"
domain = "casino"
[models."casino-slot-revenue-forecast-*".gates]
latency = {{ p99_max_ms = 20000, calls = 300, max_calls = 300 }}
[models."casino-slot-revenue-forecast-*".drift]
table = "lh_gold.slot_revenue_features"
time_column = "play_date"
[models."casino-slot-revenue-forecast-*".retrain]
command = ["python", {pipeline}, "--trees", "10"]
[[alerts.rules]]
name = "drift"
model = "casino-*"
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A year of revenue, a Production baseline and a challenger."""
    from pytest_mlgates.reference.synthesise import Scale, synthesise
    from pytest_mlgates.reference.train import ForestParams, train
    from pytest_mlgates.registry.tracking import MlflowTracker

    folder = tmp_path_factory.mktemp("loop") / "project"
    folder.mkdir()
    pipeline = json.dumps(str(suite.folder("pipelines") / "retrain.py"))
    (folder / "mlgates.toml").write_text(SETTINGS.format(pipeline=pipeline))
    project = Project.open(folder / "mlgates.toml", create=True)
    synthesise(project.lakehouse, Scale(machines=2))
    train(MlflowTracker(project.registry.tracking_uri), project.lakehouse, params=ForestParams(10), environ={"GIT_SHA": "abc"})
    project.registry.set_stage(BASELINE, "1", "Production")
    return folder


@pytest.fixture
def project(template, tmp_path) -> Path:
    """A fresh copy; model files stay where they are."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    return folder


def loop(folder: Path, *options: str) -> tuple[int, dict[str, str], str]:
    """Run the loop; return the exit code, the outcome of each step, and the output."""
    command = [sys.executable, "-m", "pytest", "--mlgates-loop", "--model-name", MODEL, "-v", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    steps = dict(re.findall(r"::test_(\d)_\w+ (PASSED|FAILED|SKIPPED|ERROR)", done.stdout))
    return done.returncode, steps, done.stdout + done.stderr


CASES = [["--mlgates-loop-fault", "retrain-crashes"]]
if PROVE:
    CASES += [[], *(["--mlgates-loop-fault", fault] for fault in ("twice", "receiver-down", "teams-500"))]
    CASES += [["--mlgates-loop-inject", kind] for kind in ("prediction", "performance", "concept")]


@pytest.mark.slow
@pytest.mark.prove
@pytest.mark.parametrize("options", CASES, ids=lambda o: o[-1] if o else "plain")
def test_the_loop_closes_once_whatever_fault_is_put_in(project, options) -> None:
    code, steps, output = loop(project, *options)
    assert (code, steps) == (0, {str(n): "PASSED" for n in range(1, 9)}), output
    opened = Project.open(project / "mlgates.toml")
    assert [v.stage for v in opened.registry.versions(MODEL)] == ["None", "Staging"]
    run = next((project / "mlgates-loop").iterdir())
    assert len(json.loads((run / "teams.json").read_text())) == 2  # the alert and the summary
    assert "Traceback" not in (run / "receiver.log").read_text()
    assert not list(project.glob(".mlgates-loop-*"))


@pytest.mark.prove
def test_with_the_rule_disabled_step_2_fails_by_its_deadline_and_the_rest_is_skipped_with_the_reason(project) -> None:
    settings = project / "mlgates.toml"
    settings.write_text(settings.read_text() + "enabled = false\n")
    code, steps, output = loop(project, "--mlgates-loop-deadline", "2")
    assert code == 1
    assert [steps[str(n)] for n in range(1, 9)] == ["PASSED", "FAILED", *["SKIPPED"] * 6]
    assert f"no enabled alert rule of the settings is for {MODEL}, so nothing fired within 2 s" in output
    assert output.count("step 2 failed") >= 1


@pytest.mark.slow
@pytest.mark.prove
def test_the_steps_of_the_loop_workflow_close_it_as_they_are_written(project) -> None:
    job = steps("loop-test.yml", "loop")
    assert bash(job["Install"], project).returncode == 0
    done = bash(job["Close the loop"], project, timeout=900, MODEL_NAME=MODEL, LIVE="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "loop-report" / "loop.txt").read_text().count("PASSED") == 8
    assert 'tests="8"' in (project / "loop-report" / "loop.xml").read_text()
    assert json.loads(next((project / "mlgates-loop").glob("*/loop.json")).read_text())["closed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model-name", "casino-slot-revenue-forecast-nosuch"], "casino-slot-revenue-forecast-nosuch"),
        ([], "--mlgates-loop needs --model-name NAME"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_4(pytester, migrated, options, message) -> None:
    shutil.copy(migrated, pytester.path / "mlflow.db")
    pytester.makefile(".toml", mlgates=SETTINGS.format(pipeline='"retrain.py"'))
    done = pytester.runpytest_inprocess("--mlgates-loop", *options)
    assert done.ret == 4
    assert [line for line in done.errlines if line.strip()] == [line for line in done.errlines if message in line]
    assert message in done.stderr.str()
    assert "Traceback" not in done.stdout.str() + done.stderr.str()
