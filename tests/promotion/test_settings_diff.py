"""Which thresholds does a pull request loosen? Said, and refused unless it is agreed."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

import pytest

from pytest_mlgates.cli import main
from pytest_mlgates.config import Gates, Policy, parse_settings
from pytest_mlgates.promotion.loosening import HIGHER_IS_STRICTER, LOWER_IS_STRICTER, compare

TABLE = {"task": "regression", "target": "y", "holdout": "lh_gold.h"}
BASE = {"models": {"m-*": {**TABLE, "gates": {"performance": {"floor": 0.6}, "fairness": {"max_tpr_gap": 0.1}}}}}


def loosened(after: dict[str, object], before: dict[str, object] = BASE) -> dict[str, bool]:
    return {c.key: c.loosens for c in compare(parse_settings(before), parse_settings(after))}


def with_gates(**gates: object) -> dict[str, object]:
    kept = BASE["models"]["m-*"]["gates"]
    return {"models": {"m-*": {**TABLE, "gates": {**kept, **gates}}}}


@pytest.mark.parametrize(
    ("after", "key", "loosens"),
    [
        (with_gates(performance={"floor": 0.6, "min_ratio": 0.5}), 'models."m-*".gates.performance.min_ratio', True),
        (with_gates(performance={"floor": 0.6, "min_ratio": 0.99}), 'models."m-*".gates.performance.min_ratio', False),
        (with_gates(performance={}), 'models."m-*".gates.performance.floor', True),
        (with_gates(performance={"floor": 0.6, "metric": "mape"}), 'models."m-*".gates.performance.metric', True),
        (with_gates(latency={"p99_max_ms": 900.0}), 'models."m-*".gates.latency.p99_max_ms', True),
        (with_gates(latency={"p99_max_ms": 90.0}), 'models."m-*".gates.latency.p99_max_ms', False),
        (with_gates(fairness={}), 'models."m-*".gates.fairness.max_tpr_gap', True),
        (with_gates(calibration={"max_ece": 0.2}), 'models."m-*".gates.calibration.max_ece', True),
        ({"models": {"m-*": {**BASE["models"]["m-*"], "on_inconclusive": "warn"}}}, 'models."m-*".on_inconclusive', True),
        ({"models": {"m-*": {**BASE["models"]["m-*"], "holdout": "lh_gold.easy"}}}, 'models."m-*".holdout', True),
        ({**BASE, "policy": {"max_age_days": 90.0}}, "policy.max_age_days", True),
        ({**BASE, "policy": {"consecutive_wins": 3}}, "policy.consecutive_wins", True),
        ({**BASE, "policy": {"min_e_value": 40.0}}, "policy.min_e_value", False),
        ({**BASE, "policy": {"settings_digests": {"Staging": ["sha256:x"]}}}, "policy.settings_digests.Staging", True),
    ],
)
def test_a_change_is_judged(after: dict[str, object], key: str, loosens: bool):
    assert loosened(after) == {key: loosens}


def test_nothing_changed_says_nothing():
    assert loosened(BASE) == {}


def test_a_table_that_takes_a_model_away_from_a_stricter_one_shows():
    easy = {**TABLE, "gates": {"performance": {"min_ratio": 0.1}}}
    found = loosened({"models": {"m-new": easy, **BASE["models"]}})
    assert found['models."m-new".gates.performance.min_ratio']
    assert loosened({"models": {"*-new": easy, **BASE["models"]}}) == {'models."*-new"': True}
    assert loosened({"models": {"other": easy, **BASE["models"]}}) == {'models."other"': False}
    assert loosened({"models": {"z": TABLE}})['models."m-*"']


def test_every_threshold_of_the_gates_and_the_policy_has_a_direction():
    """A new threshold without one counts as loosened by any change; this list says which are meant to."""
    undirected = {"gates.performance.metric", "gates.fairness.cutoff", "policy.stage_mode", "policy.settings_digests"}
    known = set(HIGHER_IS_STRICTER | LOWER_IS_STRICTER) | undirected
    names = {f"gates.{g}.{f}" for g, field in Gates.model_fields.items() for f in field.default.__class__.model_fields}
    names |= {f"policy.{f}" for f in Policy.model_fields}
    assert names <= known


def test_the_command_compares_with_a_commit(tmp_path: Path):
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True
        )

    def diff(*words: str) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            return main(["--settings", str(file), "settings", "diff", *words]), out.getvalue()

    file = tmp_path / "mlgates.toml"
    text = '[models.m]\ntask = "regression"\ntarget = "y"\nholdout = "lh_gold.h"\n[models.m.gates]\nlatency = { p99_max_ms = 200 }\n'
    file.write_text(text)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "base")
    assert diff("HEAD") == (0, "no threshold differs from HEAD\n")
    file.write_text(text.replace("200", "500"))
    code, said = diff("HEAD")
    assert code == 1
    assert 'loosened  models."m".gates.latency.p99_max_ms: 200.0 -> 500.0' in said
    assert diff("HEAD", "--allow", 'models."m".gates.latency.p99_max_ms')[0] == 0
    assert diff("nosuch")[0] == 4
    assert diff("--output=x")[0] == 4
