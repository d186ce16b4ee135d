"""Candidates that come one after another to the same holdout: only the bound that lets them pass becomes stricter."""

import numpy as np
import pytest

from pytest_mlgates import checks
from pytest_mlgates.results import Verdict

RNG = np.random.default_rng(5)
N = 600
P = RNG.uniform(0.05, 0.95, N)
Y = RNG.random(N) < P
GROUP = np.where(np.arange(N) % 2, "a", "b")
AMOUNT = RNG.normal(400, 80, N)
JUDGED = {
    "performance": (lambda n: checks.performance(Y, P, P * 0.9 + 0.05 * RNG.random(N), metric="brier", looks=n), "high"),
    "holdout": (lambda n: checks.holdout(AMOUNT + np.where(P < 0.5, 3, 1), AMOUNT, looks=n), "high"),
    "fairness": (lambda n: checks.fairness(Y, P, GROUP, looks=n), "low"),
    "fairness of errors": (lambda n: checks.fairness(AMOUNT, AMOUNT + P, GROUP, task="regression", looks=n), "low"),
    "calibration": (lambda n: checks.calibration(Y, P, looks=n), "high"),
}


@pytest.mark.parametrize("gate", JUDGED)
def test_looks_move_only_the_bound_that_lets_a_candidate_pass(gate):
    judge, passing = JUDGED[gate]
    failing = "low" if passing == "high" else "high"
    state = RNG.bit_generator.state
    once = judge(1)
    RNG.bit_generator.state = state
    often = judge(20)
    wider = -1 if passing == "low" else 1
    assert wider * (getattr(often, passing) - getattr(once, passing)) > 0
    assert getattr(often, failing) == getattr(once, failing)
    assert once.estimate == often.estimate
    assert "look 20 at this holdout" in often.summary
    assert "look" not in once.summary


def test_gaps_between_groups_and_flips_are_corrected_too():
    def fair(looks):
        return checks.fairness(Y, P, GROUP, max_tpr_gap=0.5, max_odds_gap=0.5, looks=looks).details["attributes"]["sensitive"]

    for which in ("equal_opportunity_difference", "equalized_odds_difference"):
        assert fair(20)[which]["high"] > fair(1)[which]["high"]
        assert fair(20)[which]["low"] == fair(1)[which]["low"]

    def flips(looks):
        found = checks.holdout(P + 0.01, P, decision_threshold=0.5, looks=looks)
        return found.details["findings"]["flips"]

    assert flips(20)["high"] > flips(1)["high"]
    assert flips(20)["low"] == flips(1)["low"]


def best_of_twenty(draw, judge, luck, rounds=40):
    """How often the luckiest of twenty bad candidates passes, uncorrected and corrected."""
    passed = {1: 0, 20: 0}
    for seed in range(rounds):
        rng = np.random.default_rng([3, seed])
        y, candidates = draw(rng)
        best = min(candidates, key=lambda c: luck(y, c))
        for looks in passed:
            passed[looks] += judge(y, best, looks).verdict is Verdict.PASS
    return passed[1], passed[20]


def test_the_best_of_twenty_miscalibrated_candidates_does_not_pass():
    def draw(rng):
        """Each says 0.107 too much in one random half of the rows and 0.107 too little in the other."""
        known = np.where(rng.random(800) < 0.5, 0.3, 0.7)
        y = rng.random(800) < known
        return y, [known + 0.107 * rng.choice([-1, 1], 800) for _ in range(20)]

    def judge(y, p, looks):
        return checks.calibration(y, p, max_ece=0.10, looks=looks)

    once, often = best_of_twenty(draw, judge, lambda y, p: checks.calibration(y, p).estimate)
    assert once >= 8
    assert often <= 3


def test_the_best_of_twenty_unfair_candidates_does_not_pass():
    group = np.arange(2_000) % 2

    def draw(rng):
        y = rng.random(2_000) < 0.5
        return y, [rng.random(2_000) < np.where(group, 0.5, 0.5 * 0.78) for _ in range(20)]

    def judge(y, p, looks):
        return checks.fairness(y, p, {"group": group}, looks=looks)

    once, often = best_of_twenty(draw, judge, lambda y, p: -(p[group == 0].mean() / p[group == 1].mean()))
    assert once >= 12
    assert often <= 4
