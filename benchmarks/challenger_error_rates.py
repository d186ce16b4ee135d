"""Error rates and waiting times of the champion/challenger rule, by simulation.

Simulates a year of daily losses under the shipped rule (`pytest_mlgates.promotion.contest`), watched every day, and beside it
the rule of seven wins alone. Prints one line a scenario and exits 1 when a promise is not kept.

    python benchmarks/challenger_error_rates.py [--years 4000] [--seed 1]
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys

import numpy as np

from pytest_mlgates.promotion.contest import Day, judge

DAYS = 365
START = dt.date(2026, 1, 1)
DATES = [START + dt.timedelta(days=i) for i in range(DAYS)]

# name, win rate, AR(1) coefficient, tails, promise on the share promoted, promise on the median wait in days
SCENARIOS = [
    ("equal models", 0.5, 0.0, "normal", ("<=", 0.05), None),
    ("equal models, heavy tails (t, 3 df)", 0.5, 0.0, "t3", ("<=", 0.05), None),
    ("equal models, AR(1) 0.4", 0.5, 0.4, "normal", ("<=", 0.05), None),
    ("equal models, AR(1) 0.6", 0.5, 0.6, "normal", None, None),
    ("slightly worse (wins 45 %)", 0.45, 0.0, "normal", ("<=", 0.05), None),
    ("wins 60 %", 0.6, 0.0, "normal", (">=", 0.90), None),
    ("wins 70 %", 0.7, 0.0, "normal", (">=", 0.90), 65),
]


def log_ratios(rng: np.random.Generator, win_rate: float, phi: float, tails: str) -> np.ndarray:
    """A year of log(champion loss / challenger loss); positive days are wins. Shape (365,)."""
    from scipy.stats import norm, t

    noise = rng.standard_normal(DAYS) if tails == "normal" else rng.standard_t(3, DAYS)
    shift = norm.ppf(win_rate) if tails == "normal" else t.ppf(win_rate, 3)
    if phi:
        for i in range(1, DAYS):
            noise[i] = phi * noise[i - 1] + np.sqrt(1 - phi**2) * noise[i]
    return 0.1 * (noise + shift)


def promoted_on(days: list[Day]) -> int | None:
    """Days until the shipped rule agrees; ``None`` within the year. Once it agrees it goes on agreeing: bisect."""
    if not judge(days).agrees:
        return None
    low, high = 1, len(days)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if judge(days[:middle]).agrees else (middle + 1, high)
    return low


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
    for name, rate, phi, tails, share_promise, wait_promise in SCENARIOS:
        rng = np.random.default_rng([args.seed, int(rate * 100), int(phi * 10), len(tails)])
        waits, naive = [], 0
        for _ in range(args.years):
            ratios = log_ratios(rng, rate, phi, tails)
            champion, challenger = 100 * np.exp(ratios / 2), 100 * np.exp(-ratios / 2)
            days = [Day(d, float(a), float(b)) for d, a, b in zip(DATES, champion, challenger, strict=True)]
            naive += judge(days, min_e_value=1.0).agrees
            waits.append(promoted_on(days))
        arrived = [w for w in waits if w is not None]
        share = len(arrived) / args.years
        median = statistics.median(w if w is not None else DAYS * 10 for w in waits)
        said = []
        if share_promise is not None:
            ok = share <= share_promise[1] if share_promise[0] == "<=" else share >= share_promise[1]
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
