"""Which thresholds does a pull request loosen? Said, and refused unless it is agreed."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

import pytest

from pytest_mlgates.cli import main
from pytest_mlgates.config import Gates, Policy, parse_settings
from pytest_mlgates.promotion.loosening import ANY_IS_STRICTER, HIGHER_IS_STRICTER, LOWER_IS_STRICTER, compare

TABLE = {"task": "regression", "target": "y", "holdout": "lh_gold.h"}
BASE = {"models": {"m-*": {**TABLE, "gates": {"performance": {"floor": 0.6}, "fairness": {"max_tpr_gap": 0.1}}}}}


def loosened(after: dict[str, object], before: dict[str, object] = BASE) -> dict[str, bool]:
    return {c.key: c.loosens for c in compare(parse_settings(before), parse_settings(after))}


def with_gates(**gates: object) -> dict[str, object]:
    kept = BASE["models"]["m-*"]["gates"]
    return {"models": {"m-*": {**TABLE, "gates": {**kept, **gates}}}}


def with_checks(**checks: object) -> dict[str, object]:
    return {"models": {"m-*": {**BASE["models"]["m-*"], "checks": checks}}}


def with_drift(**drift: object) -> dict[str, object]:
    return {"models": {"m-*": {**BASE["models"]["m-*"], "drift": drift}}}


def with_rule(**rule: object) -> dict[str, object]:
    return {**BASE, "alerts": {"rules": [{"name": "drift", **rule}]}}


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
        (with_checks(dummy=False), 'models."m-*".checks.dummy', True),
        (with_checks(monotonicity={"x": "+"}), 'models."m-*".checks.monotonicity.x', False),
        (with_drift(min_psi=0.3), 'models."m-*".drift.min_psi', True),
        (with_drift(limits={"x": 0.5}), 'models."m-*".drift.limits.x', True),
        (with_drift(events=["2026-07-04"]), 'models."m-*".drift.events', True),
        (with_drift(table="lh_gold.elsewhere"), 'models."m-*".drift.table', True),
        ({**BASE, "lakehouse": "elsewhere"}, "lakehouse", True),
        (with_rule(sustained=3), 'alerts.rules."drift".sustained', True),
        (with_rule(severity="P1"), 'alerts.rules."drift".severity', False),
        (with_rule(metrics=["psi_overall"]), 'alerts.rules."drift".metrics', True),
        (with_rule(cooldown_days=30.0), 'alerts.rules."drift".cooldown_days', True),
        (with_rule(escalate={"P1": 0.25}), 'alerts.rules."drift".escalate.P1', False),
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


@pytest.mark.parametrize(("metric", "low", "high", "raising"), [("r2", 0.5, 0.6, False), ("rmse", 10.0, 20.0, True)])
def test_the_floor_of_an_error_metric_is_a_ceiling(metric: str, low: float, high: float, raising: bool):
    key = 'models."m-*".gates.performance.floor'
    a, b = (with_gates(performance={"metric": metric, "floor": value}) for value in (low, high))
    assert loosened(b, a) == {key: raising}
    assert loosened(a, b) == {key: not raising}
    c, d = (with_checks(slices={"x=0.5": {"metric": metric, "floor": value}}) for value in (low, high))
    assert loosened(d, c) == {'models."m-*".checks.slices.x=0.5.floor': raising}
    assert not any(loosened(c).values())
    assert all(loosened(BASE, c).values())


def test_every_metric_has_a_direction():
    from pytest_mlgates.promotion.loosening import _HIGHER_METRICS, _LOWER_METRICS
    from pytest_mlgates.stats.metrics import METRICS

    assert {m.name: m.higher_is_better for m in METRICS.values()} == {
        **dict.fromkeys(_HIGHER_METRICS - {""}, True),
        **dict.fromkeys(_LOWER_METRICS, False),
    }


def test_what_changes_nothing_that_is_decided_is_not_said():
    assert loosened({"models": {"m-*": {**BASE["models"]["m-*"], "domain": "retail", "retrain": {"timeout_s": 9.0}}}}) == {}


def test_a_threshold_that_no_table_knows_cannot_slip_through():
    from pytest_mlgates.promotion.loosening import _differences

    for old, new in ((1, 2), (2, 1), (True, False), (None, 3), ("a", "b")):
        for key in ("gates.new.limit", "a_new_switch", "policy.new", "drift.new", "alerts.new"):
            [change] = _differences("", "", {key: old}, {key: new})
            assert change.loosens


def test_a_time_column_may_be_named_and_not_taken_away():
    from pytest_mlgates.promotion.loosening import _differences

    for old, new, loosens in (("", "day", False), ("day", "", True), ("day", "week", True)):
        [change] = _differences("", "", {"gates.holdout.time_column": old}, {"gates.holdout.time_column": new})
        assert change.loosens is loosens


def test_every_threshold_of_the_gates_and_the_policy_has_a_direction():
    """A new threshold without one counts as loosened by any change; this list says which are meant to."""
    undirected = {"gates.performance.metric", "gates.fairness.cutoff", "policy.stage_mode", "policy.settings_digests"}
    undirected.add("gates.holdout.max_train_gap")  # none stands for a limit that depends on the metric
    known = set(HIGHER_IS_STRICTER | LOWER_IS_STRICTER | ANY_IS_STRICTER) | undirected
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
    assert "--allow gates.latency names nothing that is loosened; drop it" in diff("HEAD", "--allow", "gates.latency")[1]
    assert diff("nosuch")[0] == 4
    assert diff("--output=x")[0] == 4
