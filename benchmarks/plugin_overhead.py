"""What the autoloaded plugin costs a pytest run that does not use it: `pytest --collect-only` on an empty project.

With and without the plugin in turn, so that a busy machine slows both alike; medians of CPU and wall seconds, and their ratios.

    python benchmarks/plugin_overhead.py [--runs 20]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def run(folder: str, *extra: str) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *extra],
        cwd=folder,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        check=False,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    # other plugins of a development environment stay out of both sides
    others = [f"-p no:{name}" for name in ("locust", "xdist", "hypothesispytest", "anyio")]
    words = " ".join(others).split()
    measured: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        run(folder, *words)
        for _ in range(runs):
            measured["with"].append(run(folder, *words))
            measured["without"].append(run(folder, *words, "-p", "no:mlgates"))
    medians = {side: [statistics.median(m[i] for m in found) for i in (0, 1)] for side, found in measured.items()}
    print(f"{'':10} {'CPU s':>8} {'wall s':>8}   medians of {runs}")
    for side, (cpu, wall) in medians.items():
        print(f"{side:10} {cpu:8.3f} {wall:8.3f}")
    ratios = [medians["with"][i] / medians["without"][i] for i in (0, 1)]
    print(f"{'ratio':10} {ratios[0]:8.3f} {ratios[1]:8.3f}   limit 1.05")
    return 0 if min(ratios) <= 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
