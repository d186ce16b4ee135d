"""Error rates and waiting times of the champion/challenger rule, by simulation.

Simulates a year of daily losses under the shipped rule (`pytest_mlgates.promotion.contest`), watched every day, and beside it
the rule of seven wins alone. Prints one line a scenario and exits 1 when a promise is surely (by two standard errors) not kept.

    python benchmarks/challenger_error_rates.py [--years 4000] [--seed 1]
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import zlib

import numpy as np

from pytest_mlgates.promotion.contest import Day, Race, judge

DAYS = 365
START = dt.date(2026, 1, 1)
DATES = [START + dt.timedelta(days=i) for i in range(DAYS)]

# name, true daily win rate, how the differences are drawn, promise on the share promoted, promise on the median wait in days
SCENARIOS = [
    ("equal models", 0.5, "normal", ("<=", 0.05), None),
    ("equal models, heavy tails (t, 3 df)", 0.5, "t3", ("<=", 0.05), None),
    ("equal models, wins of one size", 0.5, "fixed", ("<=", 0.05), None),
    ("equal models, sizes apart from wins", 0.5, "apart", ("<=", 0.05), None),
    ("equal models, AR(1) 0.2", 0.5, "ar 0.2", ("<=", 0.05), None),
    ("equal models, AR(1) 0.4", 0.5, "ar 0.4", ("<=", 0.05), None),
    ("equal models, AR(1) 0.4, one size", 0.5, "ar 0.4 fixed", ("<=", 0.05), None),
    ("equal models, each model's AR(1) 0.4", 0.5, "each ar 0.4", ("<=", 0.05), None),
    ("the same, heavy-tailed shocks", 0.5, "each ar 0.4 heavy", ("<=", 0.05), None),
    ("equal models, AR(1) 0.6", 0.5, "ar 0.6", None, None),
    ("slightly worse (wins 45 %)", 0.45, "normal", ("<=", 0.05), None),
    ("wins 60 %, but loses twice as much", 0.6, "costly", ("<=", 0.10), None),
    ("wins 60 %", 0.6, "normal", (">=", 0.90), None),
    ("wins 60 %, heavy tails", 0.6, "t3", (">=", 0.90), None),
    ("wins 60 %, wins of one size", 0.6, "fixed", (">=", 0.90), None),
    ("wins 60 %, sizes apart from wins", 0.6, "apart", (">=", 0.90), None),
    ("wins 70 %", 0.7, "normal", (">=", 0.90), 65),
    ("wins 70 %, heavy tails", 0.7, "t3", (">=", 0.90), 65),
    ("wins 70 %, wins of one size", 0.7, "fixed", (">=", 0.90), 65),
    ("wins 70 %, sizes apart from wins", 0.7, "apart", (">=", 0.90), 65),
    ("wins 70 %, AR(1) 0.4", 0.7, "ar 0.4", None, None),
]


def log_ratios(rng: np.random.Generator, win_rate: float, kind: str) -> np.ndarray:
    """A year of log(champion loss / challenger loss); positive days are wins. Shape (365,)."""
    from scipy.stats import norm, t

    if kind in ("fixed", "apart", "costly"):  # the size of a day's difference says nothing about who wins it
        won = rng.random(DAYS) < win_rate
        sizes = rng.exponential(0.1, DAYS) if kind == "apart" else np.full(DAYS, 0.1)
        return np.where(won, 1.0, -2.0 if kind == "costly" else -1.0) * sizes
    if kind == "t3":
        return 0.1 * (rng.standard_t(3, DAYS) + t.ppf(win_rate, 3))
    if kind.startswith("each"):
        # two series of losses of their own around the same level
        shocks = rng.exponential(1.0, (2, DAYS)) - 1.0 if "heavy" in kind else rng.standard_normal((2, DAYS))
        champion, challenger = 20.0 + autoregression(shocks, 0.4)
        return np.log(champion / challenger)
    phi = float(kind.split()[1]) if kind.startswith("ar") else 0.0
    ratios = autoregression(rng.standard_normal((1, DAYS)), phi)[0] + norm.ppf(win_rate)
    return 0.1 * (np.sign(ratios) if "fixed" in kind else ratios)


def autoregression(shocks: np.ndarray, phi: float) -> np.ndarray:
    """AR(1) of unit variance along the last axis."""
    out = shocks.copy()
    for i in range(1, shocks.shape[-1]):
        out[..., i] = phi * out[..., i - 1] + np.sqrt(1 - phi**2) * shocks[..., i]
    return out


def promoted_on(days: list[Day]) -> int | None:
    """Days until the shipped rule agrees for the first time; ``None`` within the year."""
    low, high = 1, len(days)
    if not shown(judge(days)):
        return None
    while low < high:  # once reached, the run of wins and the largest e-value stay
        middle = (low + high) // 2
        low, high = (low, middle) if shown(judge(days[:middle])) else (middle + 1, high)
    # from then on the lead alone decides: where it may, the rule itself is asked
    n = np.arange(1, len(days) + 1)
    found = np.array([day.difference for day in days])
    mean = np.cumsum(found) / n
    error = np.sqrt(np.maximum(np.cumsum(found**2) / n - mean**2, 0.0) / n)
    likely = 1 + np.flatnonzero((mean > error - 1e-9) & (n >= low))
    return next((int(day) for day in likely if judge(days[:day]).agrees), None)


def shown(race: Race) -> bool:
    """Whether the run of wins and the e-value are there, whatever the sizes."""
    return race.best_streak >= race.wins_required and race.best_e_value >= race.e_required


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=4000, help="simulated years a scenario")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    kept = True
    print(
        f"{args.years} years a scenario, watched daily; standard error of a share of 5 %: {np.sqrt(0.05 * 0.95 / args.years):.2%}"
    )
    print(f"{'scenario':<38}{'promoted':>9}{'median day':>12}{'7 wins alone':>14}  promise")
    for name, rate, kind, share_promise, wait_promise in SCENARIOS:
        rng = np.random.default_rng([args.seed, int(rate * 100), zlib.crc32(kind.encode())])
        waits, naive = [], 0
        for _ in range(args.years):
            ratios = log_ratios(rng, rate, kind)
            champion, challenger = 100 * np.exp(ratios / 2), 100 * np.exp(-ratios / 2)
            days = [Day(d, float(a), float(b)) for d, a, b in zip(DATES, champion, challenger, strict=True)]
            naive += judge(days).best_streak >= 7
            waits.append(promoted_on(days))
        arrived = [w for w in waits if w is not None]
        share = len(arrived) / args.years
        median = statistics.median(w if w is not None else DAYS * 10 for w in waits)
        said = []
        if share_promise is not None:
            slack = 2 * np.sqrt(share_promise[1] * (1 - share_promise[1]) / args.years)  # two standard errors
            ok = share <= share_promise[1] + slack if share_promise[0] == "<=" else share >= share_promise[1] - slack
            said.append(f"{share_promise[0]} {share_promise[1]:.0%} {'kept' if ok else 'BROKEN'}")
            kept &= ok
        if wait_promise is not None:
            ok = median <= wait_promise
            said.append(f"median <= {wait_promise} days {'kept' if ok else 'BROKEN'}")
            kept &= ok
        shown = f"{median:.0f}" if median <= DAYS else "never"
        print(f"{name:<38}{share:>9.1%}{shown:>12}{naive / args.years:>14.1%}  {', '.join(said) or 'none'}", flush=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
