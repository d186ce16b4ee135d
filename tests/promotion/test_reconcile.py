"""Moves made behind our back: found, written down, alarmed; never two Production versions."""

from __future__ import annotations

import pytest

from pytest_mlgates.errors import ModelNotFound

from .world import MODEL, World


@pytest.fixture
def settled(world: World) -> World:
    for version in ("1", "2"):
        world.add_version()
        world.promote(version, "Staging")
    world.hotfix("1")
    assert world.reconcile().quiet
    return world


def test_a_move_in_the_ui_is_an_alarm_once_and_a_row(settled: World):
    settled.registry.set_stage(MODEL, "2", "Archived")
    found = settled.reconcile()
    assert found.alarms[0] == "revenue v2: Staging -> Archived, moved outside of mlgates"
    row = next(r for r in settled.audit.rows(MODEL) if r.event.state == "observed")
    assert (row.event.actor, row.event.from_stage, row.event.to_stage) == ("unknown (outside mlgates)", "Staging", "Archived")
    assert settled.problems() == []
    assert settled.reconcile().quiet


def test_a_second_production_version_made_in_the_ui_makes_way(settled: World):
    settled.registry.set_stage(MODEL, "2", "Production")
    found = settled.reconcile()
    assert "revenue v2: Staging -> Production, moved outside of mlgates" in found.alarms
    assert "v2 archived: only one version may be Production, v1 stays" in found.repaired
    assert settled.stages() == {"1": "Production", "2": "Archived"}
    assert settled.problems() == []


def test_an_alias_moved_by_hand_is_an_alarm_and_put_back(settled: World):
    settled.registry.set_alias(MODEL, "champion", "2")
    found = settled.reconcile()
    assert found.alarms == ("revenue: alias champion was at v2, belongs to v1",)
    assert settled.aliases() == {"champion": "1", "challenger": "2"}
    assert settled.problems() == []


def test_an_alias_that_is_gone_is_put_back_without_an_alarm(settled: World):
    settled.registry.delete_alias(MODEL, "champion")
    found = settled.reconcile()
    assert (found.alarms, len(found.repaired)) == ((), 1)
    assert settled.aliases()["champion"] == "1"


def test_a_deleted_version_is_an_alarm(settled: World):
    settled.registry.client.delete_model_version(MODEL, "2")
    assert settled.reconcile().alarms == ("revenue v2: Staging -> Deleted, moved outside of mlgates",)
    assert settled.reconcile().quiet


def test_a_registry_that_was_there_before_is_taken_over(world: World):
    world.add_version(stage="Production")
    world.add_version(stage="Staging")
    assert len(world.reconcile().alarms) == 2
    assert world.aliases() == {"champion": "1", "challenger": "2"}
    assert world.problems() == []
    assert world.reconcile().quiet


def test_a_promotion_finds_such_moves_first_and_says_so(settled: World):
    settled.registry.set_stage(MODEL, "1", "Archived")
    done = settled.hotfix("2")
    assert done.found.alarms[0] == "revenue v1: Production -> Archived, moved outside of mlgates"
    assert settled.problems() == []


def test_the_command_exits_1_on_an_alarm(settled: World, capsys: pytest.CaptureFixture[str]):
    from pytest_mlgates.cli import main

    words = ["--settings", str(settled.folder / "mlgates.toml"), "reconcile"]
    assert main(words) == 0
    assert "revenue: registry and audit agree" in capsys.readouterr().out
    settled.registry.set_stage(MODEL, "2", "Archived")
    assert main([*words, MODEL]) == 1
    assert "ALARM revenue v2: Staging -> Archived" in capsys.readouterr().err
    with pytest.raises(ModelNotFound):
        settled.reconcile("nosuch")
    assert settled.audit.rows("nosuch") == []
