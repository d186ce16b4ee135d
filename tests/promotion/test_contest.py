"""The rule of champion/challenger: hand-worked numbers, an independent computation, properties."""

from __future__ import annotations

import datetime as dt
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlgates.promotion.contest import Day, judge
from pytest_mlgates.stats.evalue import STAKES, block_outcome

START = dt.date(2026, 1, 1)


def days(losses: list[tuple[float, float]], start: dt.date = START) -> list[Day]:
    return [Day(start + dt.timedelta(days=i), a, b) for i, (a, b) in enumerate(losses)]


def test_seven_wins_are_not_enough():
    race = judge(days([(2.0, 1.0)] * 7))
    assert (race.best_streak, race.agrees) == (7, False)
    assert race.best_e_value == pytest.approx(sum(1 + stake for stake in STAKES) / len(STAKES))
    assert race.missing == ("an e-value of 20 (so far 1.54)",)


def test_an_unbroken_run_needs_seven_weeks():
    """Six gamblers who win every week: mean of (1 + λ)^w; 17.2 after 6 weeks, 31 after 7."""
    wealth = [sum((1 + stake) ** week for stake in STAKES) / len(STAKES) for week in range(1, 9)]
    first = next(week for week, value in enumerate(wealth, 1) if value >= 20)
    assert not judge(days([(2.0, 1.0)] * (7 * first - 1))).agrees
    assert judge(days([(2.0, 1.0)] * (7 * first))).agrees


def test_a_gap_ends_a_run_and_is_stated():
    race = judge([*days([(2.0, 1.0)] * 5), *days([(2.0, 1.0)] * 5, START + dt.timedelta(days=6))])
    assert (race.days, race.streak, race.best_streak) == (10, 5, 5)
    assert race.gaps == (START + dt.timedelta(days=5),)
    assert "1 days without a score" in race.summary


def test_an_incomplete_week_is_not_bet_on():
    assert judge(days([(2.0, 1.0)] * 6)).best_e_value == 1.0


def test_a_tie_is_no_win_and_moves_no_wealth():
    race = judge(days([(1.0, 1.0)] * 28 + [(0.0, 0.0)] * 7))
    assert (race.wins, race.best_streak, race.e_value) == (0, 0, 1.0)


def test_more_challengers_ask_for_more():
    assert judge(days([(2.0, 1.0)] * 49)).agrees
    race = judge(days([(2.0, 1.0)] * 49), challengers=3)
    assert (race.e_required, race.agrees) == (60, False)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="expected finite"):
        judge([Day(START, math.nan, 1.0)])
    with pytest.raises(ValueError, match="stands twice"):
        judge([Day(START, 1.0, 1.0), Day(START, 2.0, 1.0)])


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=60), st.randoms())
def test_order_does_not_matter_and_wealth_stays_positive(losses: list[tuple[float, float]], shuffler: random.Random):
    ordered = days(losses)
    mixed = list(ordered)
    shuffler.shuffle(mixed)
    race = judge(ordered)
    assert judge(mixed) == race
    assert race.e_value > 0
    assert race.best_e_value >= max(1.0, race.e_value)
    assert race.best_streak >= race.streak


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7), st.floats(1e-3, 1e3))
def test_a_week_is_odd_bounded_and_without_scale(differences: list[float], scale: float):
    outcome = block_outcome(differences)
    assert -1 <= outcome <= 1
    assert block_outcome([-d for d in differences]) == pytest.approx(-outcome)
    if all(abs(d) > 1e-6 for d in differences):
        assert block_outcome([d * scale for d in differences]) == pytest.approx(outcome)


def test_under_equal_models_the_mean_wealth_is_one():
    """E[wealth] = 1 for the fixed stakes when differences are symmetric: the property that Ville's inequality rests on."""
    rng = random.Random(3)
    wealth = []
    for _ in range(4000):
        ratios = [rng.gauss(0, 0.1) for _ in range(28)]
        wealth.append(judge(days([(math.exp(r), 1.0) for r in ratios])).e_value)
    mean = sum(wealth) / len(wealth)
    error = (sum((w - mean) ** 2 for w in wealth) / len(wealth)) ** 0.5 / len(wealth) ** 0.5
    assert abs(mean - 1.0) < 4 * error
