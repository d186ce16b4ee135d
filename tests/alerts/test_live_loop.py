"""``--mlgates-loop-live``: the steps on a deployed receiver and channels, whose settings know nothing of the test."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pytest_mlgates.alerts import ledger, serve
from pytest_mlgates.alerts.evaluate import evaluate
from pytest_mlgates.alerts.summary import announce
from pytest_mlgates.closed_loop import open_loop
from pytest_mlgates.closed_loop.parts import LoopOpen
from pytest_mlgates.config import load_settings
from pytest_mlgates.services.drift_records import past_values
from pytest_mlgates.tables import DRIFT_METRICS
from pytest_mlgates.wiring import Project
from tests.promotion.world import MODEL, World

from .conftest import SECRET, free_port, inject

ROOT = Path(__file__).parents[2]
RETRAIN = [sys.executable, "-c", "from tests.alerts.children import retrain_for_the_receiver as run; run()"]
ALERTS = """
[[alerts.rules]]
name = "drift"
model = "revenue"
window_days = 14
threshold = 0.4
sustained = 2
group = "mlops"
[[alerts.groups.mlops.channels]]
kind = "webhook"
url = "http://127.0.0.1:{port}/alerts"
[[alerts.groups.mlops.channels]]
kind = "teams"
name = "people"
url_env = "TEAMS"
"""


@pytest.fixture
def workspace(tmp_path, migrated, sink, monkeypatch):
    """A project with a deployed receiver, and a Teams channel whose address is a secret."""
    port = free_port()
    more = f'[models."{MODEL}".retrain]\ncommand = {json.dumps(RETRAIN)}'
    world = World.make(tmp_path / "project", migrated, more=more, policy=ALERTS.format(port=port))
    world.add_version()
    monkeypatch.setenv("TEAMS", f"{sink.url}/hook?sig=planted-teams-signature")
    monkeypatch.setenv("MLGATES_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    receiver = serve.start(world.settings, port=port, log=tmp_path / "receiver.log")
    yield world
    receiver.terminate()
    receiver.wait(30)


def test_a_live_run_goes_over_the_deployed_parts_and_leaves_the_deployment_alone(
    workspace, sink, tmp_path, monkeypatch
) -> None:
    world = workspace
    store, settings = world.lake, load_settings(world.folder / "mlgates.toml")
    inject(store, 0.11, model=MODEL, days=14, run="drift-real")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    loop = open_loop(Project.open(world.folder / "mlgates.toml"), MODEL, deadline_s=300, live=True)
    for number, action in enumerate(
        (loop.inject, loop.fires, loop.received, loop.pipeline_ran, loop.registered, loop.audited, loop.told), start=1
    ):
        loop.step(number, action)
    loop.close()

    # the injected rows are marked and stay; who looks at drift or evaluates the deployed rules does not see them
    rows = store.read(DRIFT_METRICS).to_pylist()
    injected = [r for r in rows if r["run_id"] == f"injected-loop-{loop.run}"]
    assert [(r["status"], r["value"], r["current_days"]) for r in injected] == [("injected", pytest.approx(0.6), 14)] * 2
    assert len(rows) == 3
    assert [v for _, v in past_values(store, MODEL, "1", "psi_overall")] == [0.11]
    env = {**os.environ}
    assert evaluate(store, settings, env=env).transitions == ()
    assert {r.rule for r in ledger.read(store).rows} == {f"mlgates-loop-{loop.run}"}

    # the people's channel got the alert and the summary once, over the deployed group
    assert [b["attachments"][0]["content"]["body"][0]["text"].split(":")[0] for b in sink.bodies] == [
        "Drift alert",
        "Retrained",
    ]
    assert world.stages() == {"1": "None", "2": "Staging"}
    record = json.loads((world.folder / "mlgates-loop" / loop.run / "loop.json").read_text())
    assert (record["live"], record["closed"], record["version"], len(record["steps"])) == (True, False, "2", 7)
    assert "✅ Teams gets the summary" in summary.read_text()
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for secret in (SECRET, "planted-teams-signature"):
        assert secret.encode() not in written


def test_an_embedded_runs_summary_goes_to_nobody_of_the_deployment(workspace, sink) -> None:
    env = {**os.environ}
    told = announce(
        workspace.lake, workspace.settings, alert_id="a", rule="mlgates-loop-0123", model=MODEL, message="Retrained: x", env=env
    )
    assert told == ()
    settings = workspace.settings
    alerts = settings.alerts.model_copy(update={"summary_group": "mlops"})
    evaluate(workspace.lake, settings.model_copy(update={"alerts": alerts}), env=env)
    assert sink.requests == []


def test_a_group_without_a_receiver_is_a_step_that_says_so(tmp_path, migrated) -> None:
    world = World.make(tmp_path / "project", migrated, policy='[[alerts.rules]]\nname = "drift"\nmodel = "revenue"')
    world.add_version()
    loop = open_loop(Project.open(world.folder / "mlgates.toml"), MODEL, deadline_s=1, live=True)
    loop.step(1, loop.inject)
    loop.step(2, loop.fires)
    with pytest.raises(LoopOpen, match="no webhook channel"):
        loop.received()
    with pytest.raises(pytest.fail.Exception, match="step 5 stands on the 4 before it"):
        loop.step(5, loop.registered)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mlgates-loop-live", "--mlgates-loop-fault", "twice"], "breaks embedded parts only"),
        (["-n", "2"], "add -n 0"),
        (["--mlgates-loop-deadline", "0"], "must be above 0 seconds"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(pytester, migrated, options, message) -> None:
    world = World.make(pytester.path / "project", migrated)
    world.add_version()
    settings = str(world.folder / "mlgates.toml")
    done = pytester.runpytest_inprocess("--mlgates-loop", "--model-name", MODEL, "--mlgates-settings", settings, *options)
    assert done.ret == 4, done.outlines
    assert message in done.stderr.str()
    assert "Traceback" not in done.stdout.str() + done.stderr.str()
