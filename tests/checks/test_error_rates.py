"""A scaled-down run of benchmarks/gate_error_rates.py: no gate is wrong much oftener than it may be, and every planted defect is caught."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def rates():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("gate_error_rates"), importlib.import_module("gate_defects")
    finally:
        sys.path.remove(str(BENCHMARKS))


def cells():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("gate_populations").all_cells()
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("cell", cells(), ids=lambda c: f"{c.gate}: {c.name}")
def test_wrong_verdicts_are_rare(rates, cell):
    n = 300 if 300 in cell.sizes else cell.sizes[0]
    row = rates[0].run_cell(cell, n, 50, seed=8)
    assert row.errors == 0
    assert not row.broken, f"{row.wrong} of {row.draws} wrong"


def test_a_gate_that_is_wrong_too_often_is_found_out(rates):
    """The same harness with the naive rule in the gate's place."""
    import dataclasses

    from pytest_mlgates.results import GateResult, Verdict

    cell = next(c for c in cells() if c.name == "AUC 0.8 × 0.94")
    naive = dataclasses.replace(
        cell, ours=lambda **data: GateResult("performance", Verdict.PASS if cell.naive(**data) else Verdict.FAIL)
    )
    assert rates[0].run_cell(naive, 300, 50, seed=8).broken


def test_every_planted_defect_is_caught_and_good_models_raise_no_alarm(rates):
    text, missed = rates[1].defect_table(10, seed=5)
    assert missed == 0, text
    assert "11 of 11 caught" in text
