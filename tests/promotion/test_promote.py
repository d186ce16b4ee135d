"""Promotion: what is moved, what is refused, what stands in the audit."""

from __future__ import annotations

import pytest

from pytest_mlgates.errors import PromotionRefused

from .world import MODEL, World


def test_a_version_goes_to_staging_and_production(world: World):
    world.add_version()
    done = world.promote("1", "staging")
    assert (done.from_stage, done.to_stage) == ("None", "Staging")
    assert world.stages() == {"1": "Staging"}
    assert world.aliases() == {"challenger": "1"}
    world.hotfix("1")
    assert world.stages() == {"1": "Production"}
    assert world.aliases() == {"champion": "1"}
    assert world.states() == ["intent", "committed", "intent", "committed"]
    assert world.audit.verify().ok


def test_without_evidence_it_is_refused_and_recorded(world: World):
    world.add_version(judged=False)
    with pytest.raises(PromotionRefused, match="has no evidence"):
        world.promote("1", "Staging")
    assert world.stages() == {"1": "None"}
    assert world.states(MODEL) == ["refused"]
