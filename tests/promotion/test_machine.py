"""The state machine: every legal edge, every illegal edge."""

from __future__ import annotations

import itertools

import pytest

from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.promotion.machine import ALIASES, MOVES, STAGES, move_between, stage_named, why_illegal

LEGAL = {
    ("None", "Staging"): ("promote", True, False, False),
    ("Archived", "Staging"): ("promote", True, False, False),
    ("Staging", "Production"): ("promote", True, True, True),
    ("Archived", "Production"): ("rollback", True, False, True),
    ("Staging", "None"): ("withdraw", False, False, False),
    ("None", "Archived"): ("retire", False, False, False),
    ("Staging", "Archived"): ("retire", False, False, False),
    ("Production", "Archived"): ("retire", False, False, False),
}


@pytest.mark.parametrize("edge", itertools.product(STAGES, STAGES))
def test_every_edge(edge: tuple[str, str]):
    move = move_between(*edge)
    if edge in LEGAL:
        assert (move.name, move.gates, move.contest, move.archives_others) == LEGAL[edge]
    else:
        assert move is None
        assert edge[0] in why_illegal(*edge)


def test_nothing_reaches_production_without_gates():
    assert all(move.gates for (_, to), move in MOVES.items() if to == "Production")


def test_a_stage_is_known_in_any_capitals():
    assert stage_named(" production ") == "Production"
    with pytest.raises(UsageProblem, match="did you mean 'Staging'"):
        stage_named("stagin")
    assert set(ALIASES.values()) == {"champion", "challenger"}
