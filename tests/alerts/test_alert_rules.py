"""The fold from bins to what is said."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from pytest_mlgates.alerts.rules import Bin, Standing, first_bin_wanted, floor_to_bin, incident_id, severity_of, transitions
from pytest_mlgates.config import AlertRule

T0 = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
RULE = AlertRule(name="drift", escalate={"P1": 0.25})


def bins(*values: float) -> list[Bin]:
    return [Bin(T0 + dt.timedelta(hours=i), v, "psi_overall", f"run{i}") for i, v in enumerate(values)]


def said(rule: AlertRule, *values: float, standing: Standing | None = None) -> list[tuple[str, str, str]]:
    return [(t.event, t.severity, t.run_id) for t in transitions(rule, "m", bins(*values), standing)]


def leave(rule: AlertRule, found, standing: Standing | None) -> Standing | None:
    """The standing that transitions leave behind, built independently of the fold."""
    for t in found:
        if t.event == "fired":
            standing = Standing(t.alert_id, t.window_start, t.severity)
        elif t.event == "escalated":
            standing = Standing(t.alert_id, standing.start, t.severity)
        else:
            standing = Standing(t.alert_id, standing.start, standing.severity, t.window_start)
    return standing


def test_nothing_at_or_below_the_threshold() -> None:
    assert said(RULE, 0.0, 0.1, 0.20) == []


def test_fires_once_for_a_run_of_breaching_bins() -> None:
    assert said(RULE, 0.1, 0.21, 0.22, 0.23) == [("fired", "P2", "run1")]


def test_escalates_when_it_gets_worse_and_not_when_it_gets_better() -> None:
    assert said(RULE, 0.21, 0.30, 0.22, 0.31) == [("fired", "P2", "run0"), ("escalated", "P1", "run1")]


def test_resolves_at_the_first_bin_that_does_not_breach_and_fires_anew() -> None:
    assert said(RULE, 0.30, 0.05, 0.30) == [("fired", "P1", "run0"), ("resolved", "P1", "run1"), ("fired", "P1", "run2")]


def test_sustained_needs_consecutive_bins_and_takes_the_worst_of_them() -> None:
    rule = AlertRule(name="drift", sustained=3, escalate={"P1": 0.25})
    assert said(rule, 0.3, 0.3, 0.1, 0.3, 0.3) == []
    found = transitions(rule, "m", bins(0.21, 0.30, 0.22), None)
    assert [(t.event, t.severity, t.window_start) for t in found] == [("fired", "P1", T0)]


def test_severity_is_the_most_severe_level_whose_limit_lies_below() -> None:
    rule = AlertRule(name="r", severity="P3", threshold=0.15, escalate={"P2": 0.20, "P1": 0.25})
    assert [severity_of(rule, v) for v in (0.16, 0.20, 0.21, 0.25, 0.26)] == ["P3", "P3", "P2", "P2", "P1"]


def test_an_incident_that_comes_back_in_its_own_first_bin_has_another_id() -> None:
    first = transitions(RULE, "m", bins(0.3), None)[0]
    resolved = Standing(first.alert_id, T0, "P1", resolved_at=T0)
    again = transitions(RULE, "m", bins(0.3), resolved)[0]
    assert again.event == "fired"
    assert again.alert_id != first.alert_id


def test_ids_depend_on_rule_model_and_bin_only() -> None:
    other_zone = T0.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert incident_id("r", "m", T0) == incident_id("r", "m", other_zone)
    assert len({incident_id(*a) for a in [("r", "m", T0), ("r2", "m", T0), ("r", "m2", T0), ("rm", "", T0)]}) == 4


def test_bins_are_counted_from_the_epoch() -> None:
    assert floor_to_bin(T0 + dt.timedelta(minutes=59, seconds=59), 60) == T0
    assert floor_to_bin(T0 + dt.timedelta(minutes=60), 60) == T0 + dt.timedelta(hours=1)


def test_what_is_looked_at_begins_at_the_open_incident_or_the_look_back_or_the_resolution() -> None:
    now = T0 + dt.timedelta(days=10)
    back = now - dt.timedelta(hours=48)
    assert first_bin_wanted(RULE, None, now) == back
    assert first_bin_wanted(RULE, Standing("a", T0, "P2"), now) == T0
    assert first_bin_wanted(RULE, Standing("a", T0, "P2", T0), now) == back
    recent = now - dt.timedelta(hours=2)
    assert first_bin_wanted(RULE, Standing("a", T0, "P2", recent), now) == recent


values = st.lists(st.floats(0, 0.5, allow_nan=False), min_size=0, max_size=30)


@given(values, st.integers(1, 3))
def test_folding_again_says_nothing_and_one_incident_is_open_at_most(numbers, sustained) -> None:
    rule = AlertRule(name="drift", sustained=sustained, escalate={"P1": 0.25})
    found = transitions(rule, "m", bins(*numbers), None)
    standing = leave(rule, found, None)
    since = T0 if standing is None else (standing.start if standing.resolved_at is None else standing.resolved_at)
    assert transitions(rule, "m", [b for b in bins(*numbers) if b.start >= since], standing) == []
    open_ids: set[str] = set()
    for t in found:
        if t.event == "fired":
            assert not open_ids
            open_ids.add(t.alert_id)
        else:
            assert t.alert_id in open_ids
        if t.event == "resolved":
            open_ids.remove(t.alert_id)
    assert len({t.alert_id for t in found if t.event == "fired"}) == sum(t.event == "fired" for t in found)


@given(values, st.data())
def test_however_often_it_is_evaluated_the_same_is_said(numbers, data) -> None:
    """An evaluation after every bin, or after some of them, says in all what one evaluation at the end says."""
    at_once = transitions(RULE, "m", bins(*numbers), None)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(numbers)))) | {len(numbers)})
    standing, pieces = None, []
    for cut in cuts:
        since = T0 if standing is None else (standing.start if standing.resolved_at is None else standing.resolved_at)
        found = transitions(RULE, "m", [b for b in bins(*numbers[:cut]) if b.start >= since], standing)
        standing = leave(RULE, found, standing)
        pieces += found
    assert [(t.event, t.alert_id, t.severity) for t in pieces] == [(t.event, t.alert_id, t.severity) for t in at_once]
