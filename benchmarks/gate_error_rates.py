"""False-block and false-pass rates of the five gates, beside those of the rules they replace.

    python benchmarks/gate_error_rates.py [--quick | --full] [--gate NAME] [--seed 39] [--markdown PATH] [--no-defects]

Exit code 1 when a limit is broken: a good model FAILs in more than 5 % of draws, a bad one PASSes in more than 6 %
(bursty latencies 10 %), or a planted defect is missed. A rate counts as over its limit when the draws show it
(one-sided Clopper-Pearson bound at 99 %).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
from gate_defects import defect_table
from gate_populations import Cell, all_cells

from pytest_mlgates.results import Verdict
from pytest_mlgates.stats import share_bounds

REPETITIONS = {
    "quick": (200, 200, 100, 40, 10),
    "default": (1_000, 1_000, 500, 200, 100),
    "full": (4_000, 4_000, 2_000, 500, 100),
}
MOST_FALSE_FAIL = 0.05


@dataclasses.dataclass(frozen=True)
class Row:
    """What happened to one population at one size."""

    cell: Cell
    n: int
    draws: int
    passed: int
    failed: int
    other: int
    errors: int
    naive_pass: float

    @property
    def wrong(self) -> int:
        """Draws with the wrong verdict."""
        return self.failed if self.cell.good else self.passed

    @property
    def limit(self) -> float:
        """Largest share of wrong verdicts."""
        return MOST_FALSE_FAIL if self.cell.good else self.cell.most_false_pass

    @property
    def broken(self) -> bool:
        """Whether the share is surely beyond the limit."""
        return self.errors > 0 or share_bounds(self.wrong, self.draws, 0.99)[0] > self.limit


def run_cell(cell: Cell, n: int, draws: int, seed: int) -> Row:
    rng = np.random.default_rng([seed, n, sum(map(ord, cell.gate + cell.name))])
    counts = dict.fromkeys(Verdict, 0)
    naive = 0
    for _ in range(draws):
        data = cell.draw(rng, n)
        counts[cell.ours(**data).verdict] += 1
        naive += bool(cell.naive(**data))
    return Row(
        cell,
        n,
        draws,
        counts[Verdict.PASS],
        counts[Verdict.FAIL],
        counts[Verdict.INCONCLUSIVE],
        counts[Verdict.ERROR],
        naive / draws,
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| Gate | Population | Truth | n | draws | naive wrong | ours wrong | limit | ours right | inconclusive |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        right = row.passed if row.cell.good else row.failed
        naive_wrong = 1 - row.naive_pass if row.cell.good else row.naive_pass
        mark = " **over**" if row.broken else ""
        lines.append(
            f"| {row.cell.gate} | {row.cell.name} | {'good' if row.cell.good else 'bad'} | {row.n:,} | {row.draws:,} | "
            f"{100 * naive_wrong:.1f} % | {100 * row.wrong / row.draws:.1f} %{mark} | {100 * row.limit:.0f} % | "
            f"{100 * right / row.draws:.1f} % | {100 * row.other / row.draws:.1f} % |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="size", const="quick")
    size.add_argument("--full", action="store_const", dest="size", const="full")
    parser.add_argument("--gate", help="one gate only")
    parser.add_argument("--seed", type=int, default=39)
    parser.add_argument("--markdown", type=Path, help="write the section of the docs to this file")
    parser.add_argument("--no-defects", action="store_true", help="leave the planted-defect matrix out")
    args = parser.parse_args()
    chosen = args.size or "default"
    started = time.process_time()
    rows = []
    for cell in all_cells():
        if args.gate and cell.gate != args.gate:
            continue
        for n in cell.sizes:
            # latency populations are cheap whatever their size
            draws = REPETITIONS[chosen][0 if cell.gate == "latency" else sum(n > edge for edge in (300, 1_000, 10_000, 50_000))]
            rows.append(run_cell(cell, n, draws, args.seed))
            if args.size != "quick":
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    text = table(rows)
    missed = 0
    if not args.no_defects and not args.gate:
        defects, missed = defect_table({"quick": 60, "default": 200, "full": 200}[chosen], args.seed)
        text += "\n\n" + defects
    print(text)
    broken = [r for r in rows if r.broken]
    print(
        f"\n{len(rows)} cells, {len(broken)} over their limit, {missed} planted defects missed; {time.process_time() - started:.0f} CPU s"
    )
    if args.markdown:
        option = "" if chosen == "default" else f" --{chosen}"
        head = "\n".join(
            (
                "# Error rates of the gates",
                "",
                f"Made by `python benchmarks/gate_error_rates.py{option} --seed {args.seed} --markdown docs/error-rates.md`.",
                '"Wrong" is a good model that FAILs or a bad one that PASSes; INCONCLUSIVE is neither and has a column of its own.',
                "The naive rule, the tutorial's, has no third answer. Latency cells are judged at 1,000, 2,000, … 16,000 calls until",
                "settled, the naive rule at 1,000.",
                "",
                "",
            )
        )
        args.markdown.write_text(head + text + "\n", encoding="utf-8")
    return 1 if broken or missed else 0


if __name__ == "__main__":
    sys.exit(main())
