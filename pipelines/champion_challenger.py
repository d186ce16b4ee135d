"""Score yesterday (and every day missed) with the Production champion and the Staging challenger.

Daily at 02:30 UTC, timeout 30 minutes, one retry: a second run of a day scores nothing twice. Parameters come from options
or from the environment: EVAL_WINDOW_DAYS, CHAMPION_NAME, CHALLENGER_NAME, CONSECUTIVE_WINS_REQUIRED.
"""

from __future__ import annotations

import argparse
import os
import sys

from pytest_mlgates.cli import main as mlgates


def main(argv: list[str] | None = None) -> int:
    """Run the evaluation; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--champion", default=os.environ.get("CHAMPION_NAME"), help="model whose Production version is champion"
    )
    parser.add_argument(
        "--challenger", default=os.environ.get("CHALLENGER_NAME"), help="model whose Staging version challenges"
    )
    parser.add_argument(
        "--window-days", default=os.environ.get("EVAL_WINDOW_DAYS", "1"), help="days to look back on a first run"
    )
    parser.add_argument(
        "--wins", default=os.environ.get("CONSECUTIVE_WINS_REQUIRED"), help="wins in a row (default: the settings)"
    )
    parser.add_argument("--since", help="look back to this day instead (YYYY-MM-DD)")
    parser.add_argument("--today", help="the day it is (default: today, UTC); days before it are scored")
    args = parser.parse_args(argv)
    if not args.champion or not args.challenger:
        parser.error("name both models: --champion and --challenger, or CHAMPION_NAME and CHALLENGER_NAME")
    words = [
        "challenger",
        "run",
        "--champion",
        args.champion,
        "--challenger",
        args.challenger,
        "--window-days",
        args.window_days,
    ]
    for option in ("wins", "since", "today"):
        if getattr(args, option):
            words += [f"--{option}", getattr(args, option)]
    return mlgates(words)


if __name__ == "__main__":
    sys.exit(main())
