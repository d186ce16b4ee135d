"""The rule of champion/challenger: hand-worked numbers, an independent computation, properties."""

from __future__ import annotations

import datetime as dt
import math
import random
import statistics
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlgates.promotion.contest import Day, judge
from pytest_mlgates.stats.evalue import BLOCK, sizes_bet, wealth, wins_bet

START = dt.date(2026, 1, 1)


# a block of three wins: the bet on wins as the likelihood ratio of a win rate of 0.59, made odd
THREE_WINS = (0.59**3 - 0.41**3) / (0.59**3 + 0.41**3)


def days(losses: list[tuple[float, float]], start: dt.date = START) -> list[Day]:
    return [Day(start + dt.timedelta(days=i), a, b) for i, (a, b) in enumerate(losses)]


def test_seven_wins_are_not_enough():
    race = judge(days([(2.0, 1.0)] * 7))
    assert (race.best_streak, race.agrees) == (7, False)
    # two blocks; the bet on sizes is 1, half staked
    assert race.best_e_value == pytest.approx(0.85 * (1 + THREE_WINS) ** 2 + 0.15 * 1.5**2)
    assert race.missing == ("an e-value of 20 (so far 2.24)",)


def test_an_unbroken_run_needs_24_days():
    reached = [0.85 * (1 + THREE_WINS) ** block + 0.15 * 1.5**block for block in range(1, 10)]
    first = BLOCK * next(block for block, value in enumerate(reached, 1) if value >= 20)
    assert first == 24
    assert not judge(days([(2.0, 1.0)] * (first - 1))).agrees
    assert judge(days([(2.0, 1.0)] * first)).agrees


def test_days_that_hang_together_are_bet_on_with_less():
    """The caution by hand: after +++--- the autocorrelation is (4 - 1) / (6 + 50) and the stake 1 - 6 (3 / 56 - 0.04)."""
    signs = [[0.1] * 3, [-0.1] * 3, [0.1] * 3]
    before, after = list(wealth(signs))[1:]
    wins, sizes = 0.85 * (1 + THREE_WINS) * (1 - THREE_WINS), 0.15 * 1.5 * 0.5
    assert before == pytest.approx(wins + sizes)
    caution = 1 - 6 * (3 / 56 - 0.04)
    assert after == pytest.approx(wins * (1 + caution * THREE_WINS) + sizes * (1 + caution * 0.5))
    least = list(wealth([[0.1] * 30, [-0.1] * 30] * 3))
    assert least[-1] / least[-2] > 1 - 0.31


def test_a_challenger_that_loses_more_than_it_wins_is_not_better():
    race = judge(days([(1.1, 1.0)] * 40 + [(1.0, 9.0)] * 6 + [(1.1, 1.0)] * 20))
    assert race.best_streak >= 7
    assert race.best_e_value >= 20
    assert not race.agrees
    assert race.lead == pytest.approx((60 * (0.1 / 2.1) - 6 * 0.8) / 66)
    found = [0.1 / 2.1] * 60 + [-0.8] * 6
    assert race.lead_se == pytest.approx(statistics.pstdev(found) / 66**0.5)
    (missing,) = race.missing
    assert missing.startswith("surely smaller losses on the whole (so far 2.94% of their sum larger a day, standard error")


def test_a_lead_within_its_own_standard_error_is_not_enough():
    """More wins that are small, few losses that are large: the mean is above 0, and by how much is not known."""
    race = judge(days([(1.1, 1.0)] * 60 + [(1.0, 3.0)] * 5))
    assert race.best_e_value >= 20
    assert 0 < race.lead < race.lead_se
    assert "of their sum smaller a day" in race.missing[0]
    assert judge(days([(1.1, 1.0)] * 60 + [(1.0, 3.0)] * 2)).agrees


def test_a_gap_ends_a_run_and_is_stated():
    race = judge([*days([(2.0, 1.0)] * 5), *days([(2.0, 1.0)] * 5, START + dt.timedelta(days=6))])
    assert (race.days, race.streak, race.best_streak) == (10, 5, 5)
    assert race.gaps == (START + dt.timedelta(days=5),)
    assert "1 days without a score" in race.summary


def test_incomplete_days_are_not_bet_on():
    assert judge(days([(2.0, 1.0)] * 2)).best_e_value == 1.0


def test_a_tie_is_no_win_and_moves_no_wealth():
    race = judge(days([(1.0, 1.0)] * 28 + [(0.0, 0.0)] * 7))
    assert (race.wins, race.best_streak, race.e_value) == (0, 0, 1.0)


def test_more_challengers_ask_for_more():
    assert judge(days([(2.0, 1.0)] * 24)).agrees
    race = judge(days([(2.0, 1.0)] * 24), challengers=3)
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
def test_a_bet_is_odd_bounded_and_without_scale(differences: list[float], scale: float):
    outcome = sizes_bet(differences)
    assert -1 <= outcome <= 1
    assert sizes_bet([-d for d in differences]) == pytest.approx(-outcome)
    if all(abs(d) > 1e-6 for d in differences):
        assert sizes_bet([d * scale for d in differences]) == pytest.approx(outcome)


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=7))
def test_the_bet_on_wins_is_the_likelihood_ratio_made_odd(won: list[int]):
    """(f(k) - f(-k)) / (f(k) + f(-k)) with f the probability of k more wins than losses at a win rate of 0.59."""
    wins, losses = won.count(1), won.count(-1)
    seen, mirrored = 0.59**wins * 0.41**losses, 0.59**losses * 0.41**wins
    assert wins_bet(won) == pytest.approx((seen - mirrored) / (seen + mirrored))


@given(
    st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), max_size=8), st.lists(st.floats(-1, 1), min_size=3, max_size=3)
)
def test_a_block_and_its_mirror_image_are_worth_what_was_there_before(past: list[list[float]], block: list[float]):
    """The bet is fair: symmetric differences leave the expected wealth where it was, whatever came before."""
    before = [1.0, *wealth(past)][-1]
    up, down = (list(wealth([*past, [sign * d for d in block]]))[-1] for sign in (1, -1))
    assert (up + down) / 2 == pytest.approx(before)


def test_under_equal_models_the_mean_wealth_is_one():
    """E[wealth] = 1 when differences are symmetric: the property that Ville's inequality rests on."""
    rng = random.Random(3)
    wealth = []
    for _ in range(4000):
        ratios = [rng.gauss(0, 0.1) for _ in range(28)]
        wealth.append(judge(days([(math.exp(r), 1.0) for r in ratios])).e_value)
    mean = sum(wealth) / len(wealth)
    error = (sum((w - mean) ** 2 for w in wealth) / len(wealth)) ** 0.5 / len(wealth) ** 0.5
    assert abs(mean - 1.0) < 4 * error


def signs(rng: random.Random, win_rate: float, phi: float) -> list[float]:
    """A year of wins (1) and losses (-1) of a Gaussian AR(1)."""
    shift, noise, found = NormalDist().inv_cdf(win_rate), rng.gauss(0, 1), []
    for _ in range(365):
        found.append(math.copysign(1.0, noise + shift))
        noise = phi * noise + math.sqrt(1 - phi**2) * rng.gauss(0, 1)
    return found


@pytest.mark.parametrize(
    ("win_rate", "phi", "low", "high"),
    [(0.5, 0.0, 0.0, 0.05), (0.5, 0.4, 0.0, 0.05), (0.6, 0.0, 0.90, 1.0), (0.7, 0.0, 0.98, 1.0)],
)
def test_error_and_power_with_wins_of_one_size(win_rate: float, phi: float, low: float, high: float):
    """The benchmark's rows in small: the share of years in which the e-value reaches 20, within three standard errors."""
    rng = random.Random(int(1000 * win_rate + 10 * phi))
    years, reached = 300, 0
    for _ in range(years):
        days_ = signs(rng, win_rate, phi)
        reached += max(wealth(days_[i : i + BLOCK] for i in range(0, 363, BLOCK))) >= 20
    slack = 3 * (0.05 * 0.95 / years) ** 0.5
    assert low - slack <= reached / years <= high + slack
