"""Further checks beside the five gates, gate proving, and planning: what a user of the suite sees."""

import json
import re

import pytest

from pytest_mlgates.cli import main
from tests.plugin.conftest import GOOD

ON_BY_DEFAULT = ["schema", "determinism", "batch", "robustness", "feature_leakage", "dummy", "weak_slices"]


def items(result):
    return re.findall(r"::test_(?:gate_\d|check)_(\w+)\[", "\n".join(result.outlines))


def settings(pytester, demand, extra, old="", new=""):
    pytester.makefile(".toml", mlgates=demand.settings.replace(old, new) + extra)


def test_the_five_gates_come_first_then_each_check_that_applies(gates):
    result = gates("--model-name", "demand", "--model-version", GOOD, "--collect-only", "-q")
    assert items(result) == ["performance", "holdout", "fairness", "latency", "calibration", *ON_BY_DEFAULT]


def test_a_check_is_switched_off_or_on_by_what_is_declared(gates, demand, pytester):
    settings(
        pytester,
        demand,
        '[models."demand*".checks]\nbatch = false\nrobustness = false\nmonotonicity = { price = "-" }\nbounds = { low = 0 }\n'
        'slices = { "promo=1" = { metric = "r2", floor = 0.2 } }\n',
    )
    result = gates("--model-name", "demand", "--model-version", GOOD, "-v", "--mlgates-json", "out.json")
    assert result.ret == 0
    assert set(items(result)[5:]) == {*ON_BY_DEFAULT, "bounds", "monotonicity", "slices"} - {"batch", "robustness"}
    rows = json.loads((pytester.path / "out.json").read_text())["results"]
    assert {r["verdict"] for r in rows if r["gate"] in ("bounds", "monotonicity", "slices")} == {"pass"}


@pytest.mark.parametrize(
    ("declared", "gate", "told"),
    [
        ("bounds = { low = 60 }", "bounds", r"FAILED .*predictions outside"),
        ('monotonicity = { price = "+" }', "monotonicity", r"FAILED .*price"),
        ('slices = { "promo=1" = { metric = "r2", floor = 0.99 } }', "slices", r"FAILED +promo=1: R² .* < floor 0\.990"),
    ],
)
def test_a_declaration_that_the_model_breaks_fails_the_run(gates, demand, pytester, declared, gate, told):
    settings(pytester, demand, f'[models."demand*".checks]\n{declared}\n')
    result = gates("--model-name", "demand", "--model-version", GOOD, "-v", "-k", gate, "--mlgates-no-evidence")
    assert result.ret == 1
    assert re.search(told, next(line for line in result.outlines if f"test_check_{gate}[" in line))


def test_the_gates_prove_that_they_have_teeth_and_the_score_is_kept(gates, demand):
    from pytest_mlgates.registry.store import MlflowRegistry
    from pytest_mlgates.services import evidence_store

    result = gates("--model-name", "demand", "--model-version", GOOD, "--mlgates-prove")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["gate-kill score 100 % (9 of 9 mutants killed)"])
    registry = MlflowRegistry(demand.uri)
    assert evidence_store.latest(registry, registry.get("demand", str(GOOD))).body["kill_score"] == 1.0


def test_a_loose_threshold_is_named_by_the_mutant_that_survives_it(gates, demand, pytester):
    settings(pytester, demand, "", "p99_max_ms = 500", "p99_max_ms = 5000")
    result = gates("--model-name", "demand", "--model-version", GOOD, "--mlgates-prove", "-k", "proving", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*test_gate_proving*FAILED*survived: slow;*latency p99_max_ms below *"])


def test_plan_says_what_the_holdout_can_detect_and_refuses_nonsense(demand, pytester, capsys):
    pytester.makefile(".toml", mlgates=demand.settings)

    def plan(*words):
        code = main(["plan", "--model-name", "demand", "--model-version", "1", *words])
        return code, *capsys.readouterr()

    capsys.readouterr()
    code, shown, said = plan()
    assert code == 0, said
    for gate in ("performance", "holdout", "latency", "calibration"):
        assert re.search(rf"^{gate} .*\d", shown, re.MULTILINE)
    rows = json.loads(plan("--json")[1])
    assert all(row["words"] and row["n"] for row in rows)
    code, _, said = plan("--power", "2")
    assert code == 4
    assert "power is 2.0, expected" in said
    assert "Traceback" not in said
