"""A retraining over a real registry and audit: what is moved, what is said, and where the message leads."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_mlgates.alerts.query import LOOP_RULE
from pytest_mlgates.closed_loop.embedded import EmbeddedParts
from pytest_mlgates.results import Verdict
from pytest_mlgates.services.retrain import GateRun, Retraining, Trigger, mlflow_link, retrain
from pytest_mlgates.wiring import Project
from tests.promotion.world import ALL_PASS, MODEL, World


def run(world: World, *, results=ALL_PASS, exit_code: int = 0) -> tuple[Retraining, list[Retraining]]:
    told: list[Retraining] = []

    def train(tags) -> str:
        version = world.add_version(judged=False)
        for key, value in tags.items():
            world.registry.client.set_tag(version.run_id, key, value)
        return version.version

    def gates(name: str, version: str) -> GateRun:
        world.judge(world.registry.get(name, version), results=results)
        return GateRun(exit_code, results, "tail")

    done = retrain(
        world.registry, world.audit, world.settings, MODEL, trigger=Trigger("drift_alert", "alert-1"), train=train, gates=gates,
        tell=told.append, actor="pipeline", git_sha="abc", link=mlflow_link("https://me:planted-word@mlflow.example:5000/base/"),
    )  # fmt: skip
    return done, told


def test_a_retraining_that_passes_is_in_staging_and_its_message_leads_to_the_run(tmp_path, migrated) -> None:
    world = World.make(tmp_path / "project", migrated)
    done, told = run(world)
    assert (done.outcome, world.stages()) == ("succeeded", {"1": "Staging"})
    run_id = world.registry.get(MODEL, "1").run_id
    assert f"Run: https://mlflow.example:5000/base/#/runs/{run_id}" in done.message.splitlines()
    assert "planted" not in done.message
    assert told == [done]


def test_a_retraining_that_a_gate_blocks_moves_nothing_and_says_why(tmp_path, migrated) -> None:
    world = World.make(tmp_path / "project", migrated)
    bad = dataclasses.replace(ALL_PASS[0], verdict=Verdict.FAIL, summary="R² 0.41 < floor 0.60")
    done, told = run(world, results=(bad, *ALL_PASS[1:]), exit_code=1)
    assert (done.outcome, world.stages()) == ("blocked", {"1": "None"})
    assert "R² 0.41 < floor 0.60" in done.message
    assert "nothing was moved" in done.message
    assert [r for r in world.audit.rows(MODEL) if r.event.state == "committed"] == []
    assert told == [done]


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "postgresql+psycopg2://u:p@h/db", "databricks", ""])
def test_a_store_without_pages_has_no_link(uri) -> None:
    assert mlflow_link(uri) == ""


def test_a_loops_own_settings_keep_the_links_of_the_project(tmp_path, migrated) -> None:
    policy = '[alerts]\nrun_link = "https://mlflow.example/#/runs/{run_id}"\nlinks = { Runbook = "https://example.org/r" }'
    world = World.make(tmp_path / "project", migrated, policy=policy)
    folder = world.folder / "mlgates-loop" / "r1"
    folder.mkdir(parents=True)
    parts = EmbeddedParts(Project.open(world.folder / "mlgates.toml"), MODEL, None, folder)
    try:
        assert parts.settings.alerts.run_link == "https://mlflow.example/#/runs/{run_id}"
        assert parts.settings.alerts.links == {"Runbook": "https://example.org/r"}
        assert LOOP_RULE in parts.settings.alerts.groups
    finally:
        parts.close()
