"""Promotion: what is moved, what is refused, what stands in the audit."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlgates.errors import ModelNotFound, PromotionRefused, UsageProblem
from pytest_mlgates.promotion.machine import MOVES, STAGES
from pytest_mlgates.results import GateResult, Verdict

from .conftest import Template
from .world import ALL_PASS, MODEL, World


def with_verdict(gate: str, verdict: Verdict) -> tuple[GateResult, ...]:
    return tuple(GateResult(gate=r.gate, verdict=verdict if r.gate == gate else r.verdict, hint="mend it") for r in ALL_PASS)


def refused(world: World, version: str = "1", to: str = "Staging", **options: object) -> str:
    """Promote, expect a refusal, and check that nothing moved and that the refusal is in the audit."""
    before, aliases = world.stages(), world.aliases()
    with pytest.raises(PromotionRefused) as caught:
        world.promote(version, to, **options)
    assert (world.stages(), world.aliases()) == (before, aliases)
    last = world.audit.rows(MODEL)[-1]
    assert (last.event.state, last.event.version, last.event.to_stage) == ("refused", version, to)
    assert all(reason in last.event.rationale for reason in caught.value.reasons)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_version_goes_to_staging_and_production_with_its_aliases(world: World):
    world.add_version()
    done = world.promote("1", "staging")
    assert (done.from_stage, done.to_stage, done.archived) == ("None", "Staging", ())
    assert world.aliases() == {"challenger": "1"}
    world.hotfix("1")
    assert world.stages() == {"1": "Production"}
    assert world.aliases() == {"champion": "1"}
    assert world.states() == ["intent", "committed", "intent", "committed"]
    row = world.audit.rows(MODEL)[-1]
    assert row.event.rationale == "hotfix approved by bob: it is better"
    assert (row.event.actor, row.event.git_sha, row.event.evidence_id) == ("ann", "abc", done.evidence_id)
    assert world.problems() == []


def test_staging_keeps_its_versions_and_production_archives_the_old_one(world: World):
    for _ in range(3):
        world.add_version()
    world.promote("1", "Staging")
    world.hotfix("1")
    world.promote("2", "Staging")
    world.promote("3", "Staging")
    assert world.stages() == {"1": "Production", "2": "Staging", "3": "Staging"}
    done = world.hotfix("3")
    assert done.archived == ("1",)
    assert world.stages() == {"1": "Archived", "2": "Staging", "3": "Production"}
    assert world.aliases() == {"champion": "3", "challenger": "2"}
    last = world.audit.rows(MODEL)[-1].event
    assert (last.version, last.from_stage, last.to_stage, last.rationale) == ("1", "Production", "Archived", "made way for v3")
    assert world.problems() == []


def test_every_illegal_move_is_refused_and_changes_nothing(world: World):
    for stage in STAGES:
        world.add_version(stage=stage)
    world.reconcile()
    versions = {stage: str(number) for number, stage in enumerate(STAGES, 1)}
    for edge in itertools.product(STAGES, STAGES):
        if edge not in MOVES:
            message = refused(world, versions[edge[0]], edge[1], hotfix=True, approver="bob")
            assert ("already" in message) == (edge[0] == edge[1])
    assert world.problems() == []


def test_without_evidence_it_is_refused(world: World):
    world.add_version(judged=False)
    assert "has no evidence; run: pytest --model-name revenue --model-version 1" in refused(world)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE])
def test_a_gate_that_blocks_is_named(world: World, verdict: Verdict):
    world.add_version(results=with_verdict("latency", verdict))
    assert f"gate latency: {verdict} (mend it)" in refused(world)


def test_an_inconclusive_gate_may_be_let_through_by_the_settings(make_world: Callable[..., World]):
    world = make_world(more='on_inconclusive = "warn"')
    world.add_version(results=with_verdict("latency", Verdict.INCONCLUSIVE))
    assert world.promote("1", "Staging").to_stage == "Staging"


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_gate_that_never_ran_is_missed(world: World, kept: int):
    """What `-k`, `--deselect`, xfail or `-p no:` leave out, whatever pytest's exit code was."""
    world.add_version(results=ALL_PASS[:kept])
    message = refused(world)
    assert "required gates did not report: " in message
    assert all(r.gate in message for r in ALL_PASS[kept:])


def test_evidence_cannot_ask_for_less_than_the_settings(world: World):
    """A document that says it requires one gate only is judged by the settings' list all the same."""
    version = world.add_version(judged=False)
    evidence = world.evidence(version, results=ALL_PASS[:1])
    body = {**evidence.body, "required": ["performance"], "verdict": "pass"}
    from pytest_mlgates.evidence import Evidence, canonical_bytes, sha256
    from pytest_mlgates.services import evidence_store

    evidence_store.store(world.registry, version, Evidence(body, sha256(canonical_bytes(body))))
    assert "required gates did not report: holdout" in refused(world)


def test_a_regulated_model_needs_its_fairness_gate_judged(make_world: Callable[..., World]):
    world = make_world(more='regulated = true\nsensitive = ["x"]')
    world.add_version()
    assert "gate fairness was skipped and the model is regulated" in refused(world)


@pytest.mark.parametrize("gate", ["performance", "latency"])
def test_a_gate_that_applies_to_every_model_was_not_skipped(world: World, gate: str):
    """A test of one's own that skips under the gate's name stands in for nothing."""
    world.add_version(results=with_verdict(gate, Verdict.SKIP))
    assert f"gate {gate} was skipped, which no model may" in refused(world)


def test_evidence_of_another_version_is_refused(world: World):
    first, second = world.add_version(), world.add_version(judged=False)
    evidence = world.evidence(first)
    from pytest_mlgates.services import evidence_store

    evidence_store.store(world.registry, second, evidence)
    assert "its evidence is of revenue v1" in refused(world, "2")


def test_old_evidence_is_refused(world: World):
    world.add_version(created=dt.datetime.now(dt.UTC) - dt.timedelta(days=31))
    assert "its evidence is 31.0 days old, 30.0 days are allowed" in refused(world)


def test_evidence_by_other_settings_is_refused_unless_they_are_allowed(make_world: Callable[..., World]):
    world = make_world()
    world.add_version()
    judged_by = world.settings.digest(MODEL)
    world.write_settings(more="[models.revenue.gates]\nperformance = { min_ratio = 0.5 }")
    assert f"it was judged by settings {judged_by[:19]}…" in refused(world)
    world.write_settings(
        more="[models.revenue.gates]\nperformance = { min_ratio = 0.5 }",
        policy=f'settings_digests = {{ Staging = ["{judged_by}"], Production = ["sha256:other"] }}',
    )
    world.promote("1", "Staging")
    message = refused(world, "1", "Production", hotfix=True, approver="bob")
    assert "to Production may go sha256:other" in message


def test_a_holdout_of_other_settings_is_refused(world: World):
    world.add_version()
    text = (world.folder / "mlgates.toml").read_text().replace("lh_gold.revenue_holdout", "lh_gold.easy_holdout")
    (world.folder / "mlgates.toml").write_text(text)
    world.__dict__.pop("settings")
    assert "it was judged on lh_gold.revenue_holdout, the settings name lh_gold.easy_holdout" in refused(world)


def test_a_hotfix_needs_an_approver_and_a_reason_and_the_gates(world: World):
    world.add_version()
    world.promote("1", "Staging")
    assert "needs an approver" in refused(world, "1", "Production", hotfix=True)
    assert "no reason is given" in refused(world, "1", "Production", hotfix=True, approver="bob", reason=" ")
    world.judge(world.registry.get(MODEL, "1"), results=with_verdict("holdout", Verdict.FAIL))
    assert "gate holdout: fail" in refused(world, "1", "Production", hotfix=True, approver="bob")


def test_production_without_a_champion_needs_a_hotfix(world: World):
    world.add_version()
    world.promote("1", "Staging")
    assert "there is no champion to compare with" in refused(world, "1", "Production")


def test_production_needs_champion_and_challenger_to_have_been_compared(world: World):
    for version in ("1", "2"):
        world.add_version()
        world.promote(version, "Staging")
    world.hotfix("1")
    message = refused(world, "2", "Production")
    assert "revenue v1 and revenue v2 were never compared; run: mlgates challenger run --champion revenue" in message


def test_a_version_leaves_production_only_to_the_archive(world: World):
    world.add_version()
    world.promote("1", "Staging")
    world.promote("1", "None")
    assert world.aliases() == {}
    world.promote("1", "Staging")
    world.hotfix("1")
    world.promote("1", "Archived")
    assert (world.stages(), world.aliases()) == ({"1": "Archived"}, {})
    assert world.problems() == []


def test_what_is_not_there_is_named_and_writes_nothing(world: World):
    world.add_version()
    for version in ("9", "9" * 40, "\u00b2", "0", "01"):
        with pytest.raises(ModelNotFound, match=f"no version '{version}'"):
            world.promote(version, "Staging")
    with pytest.raises(UsageProblem, match="is not a stage"):
        world.promote("1", "Prod uction")
    assert world.audit.rows() == []


def test_aliases_alone_carry_the_stages_where_a_registry_has_none(make_world: Callable[..., World]):
    world = make_world(policy='stage_mode = "alias"')
    for version in ("1", "2"):
        world.add_version()
        world.promote(version, "Staging")
        world.hotfix(version)
    assert world.stages() == {"1": "None", "2": "None"}
    assert world.aliases() == {"champion": "2"}
    assert world.registry.get(MODEL, "1").tags["mlgates.stage"] == "Archived"
    moves = [(r.event.version, r.event.to_stage) for r in world.audit.rows(MODEL) if r.event.state == "committed"]
    assert moves == [("1", "Staging"), ("1", "Production"), ("2", "Staging"), ("2", "Production"), ("1", "Archived")]


class TestRollback:
    @pytest.fixture
    def two_up(self, template: Template, tmp_path: Path) -> World:
        """v2 is Production, v1 was before it."""
        return template("two-up", self.make).copy(tmp_path / "project")

    @staticmethod
    def make(world: World) -> None:
        for version in ("1", "2"):
            world.add_version()
            world.promote(version, "Staging")
            world.hotfix(version)

    def rollback(self, world: World, **options: object):
        from pytest_mlgates.services.promote import rollback

        given = {"actor": "ann", "reason": "v2 is worse", "git_sha": "abc", **options}
        return rollback(world.registry, world.audit, world.settings, MODEL, **given)

    def test_it_returns_to_the_version_before(self, two_up: World):
        world = two_up
        done = self.rollback(world)
        assert (done.version, done.archived, done.waived) == ("1", ("2",), ())
        assert world.stages() == {"1": "Production", "2": "Archived"}
        assert world.aliases() == {"champion": "1"}
        assert self.rollback(world).version == "2"
        assert world.problems() == []

    def test_a_reason_lets_old_evidence_through_and_the_audit_says_so(self, two_up: World):
        world = two_up
        later = dt.datetime.now(dt.UTC) + dt.timedelta(days=90)
        done = self.rollback(world, now=lambda: later)
        assert "90.0 days old" in done.waived[0]
        assert "waived: age: its evidence is 90.0 days old" in world.audit.rows(MODEL)[-2].event.rationale

    def test_no_reason_lets_a_changed_model_through(self, world: World):
        self.make(world)
        (world.model_folder("1") / "data" / "weights.bin").write_bytes(b"other")
        with pytest.raises(PromotionRefused, match="its model files have changed"):
            self.rollback(world)
        assert world.stages() == {"1": "Archived", "2": "Production"}

    def test_with_nothing_before_it_is_refused(self, world: World):
        world.add_version()
        world.promote("1", "Staging")
        world.hotfix("1")
        with pytest.raises(PromotionRefused, match="no archived version that was Production before"):
            self.rollback(world)
        assert world.states()[-1] == "refused"

    def test_no_reason_is_asked_for_while_the_evidence_holds(self, two_up: World):
        world = two_up
        done = self.rollback(world, reason="")
        assert (done.version, done.waived) == ("1", ())
        assert "its evidence still holds" in world.audit.rows()[-2].event.rationale
        later = dt.datetime.now(dt.UTC) + dt.timedelta(days=40)
        with pytest.raises(PromotionRefused, match="only a reason lets it through all the same; say why with --reason"):
            self.rollback(world, reason="", now=lambda: later)
        assert self.rollback(world, now=lambda: later).version == "2"

    def test_an_archived_version_that_never_was_production_is_no_rollback(self, two_up: World):
        world = two_up
        world.add_version()
        world.promote("3", "Archived")
        assert "never been Production" in refused(world, "3", "Production", hotfix=True, approver="bob")


class TestCommand:
    """The same through `mlgates`, as a user meets it."""

    def test_a_refusal_exits_1_with_one_line_and_the_audit_shows_it(self, world: World):
        world.add_version(results=with_verdict("calibration", Verdict.FAIL))
        done = world.mlgates("promote", MODEL, "1", "--to", "Staging", "--reason", "try")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "revenue v1 stays in None: gate calibration: fail (mend it)" in done.stderr
        listed = world.mlgates("audit", "list").stdout
        assert "refused" in listed
        assert "asked for: try" in listed

    def test_a_promotion_exits_0_and_the_chain_verifies(self, world: World):
        world.add_version()
        done = world.mlgates_alone("promote", MODEL, "1", "--to", "staging", "--reason", "better", GITHUB_ACTOR="ci")
        assert (done.returncode, done.stdout) == (0, "revenue v1: None -> Staging (audit row 2)\n")
        assert world.audit.rows(MODEL)[-1].event.actor == "ci"
        assert "evidence" in world.mlgates("evidence", "show", MODEL, "1").stdout
        assert json.loads(world.mlgates("evidence", "show", MODEL, "1", "--json").stdout)["body"]["verdict"] == "pass"
        assert world.mlgates("evidence", "verify", MODEL, "1").returncode == 0
        assert "audit verified: 2 rows" in world.mlgates("audit", "verify").stdout

    def test_wrong_calls_exit_4(self, world: World):
        world.add_version()
        assert world.mlgates("promote", MODEL, "1", "--to", "Prod", "--reason", "x").returncode == 4
        assert world.mlgates("promote", "nosuch", "1", "--to", "Staging", "--reason", "x").returncode == 4
        assert world.mlgates("promote", MODEL, "1", "--to", "Staging").returncode == 4
