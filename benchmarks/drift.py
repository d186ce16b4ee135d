"""Cost of a drift check: ours, the bare scan of the same columns as the floor, the usual notebook, and peers.

``python benchmarks/drift.py [--reference 1000000] [--current 200000] [--repeat 3] [--only NAME …] [--large]``

Every task runs in a process of its own with one numeric thread; CPU seconds (user + system) and the peak resident memory are
the child's, less what importing its libraries cost. Peers that are not installed, or do not run beside today's numpy and
pandas, are named with the reason: install each in an environment of its own and give its interpreter,
``--peer-python frouros=frouros-venv/bin/python evidently=…``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NUMERIC, CATEGORICAL, GROUP_ROWS = 40, 10, 200_000
HERE = Path(__file__).resolve()

SETUP = """
import json, os, resource, sys
reference, current, folder = sys.argv[1:4]
"""
CLOSE = """
usage = resource.getrusage(resource.RUSAGE_SELF)
cpu = usage.ru_utime + usage.ru_stime - cpu0
# not ru_maxrss: it is inherited from the process that started this one
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("RESULT " + json.dumps({"cpu": cpu, "mb": peak / 1024}))
"""
START = """
usage = resource.getrusage(resource.RUSAGE_SELF)
cpu0 = usage.ru_utime + usage.ru_stime
"""
OURS = (
    "import pyarrow.parquet as pq\nimport scipy.stats\n"
    "from pytest_mlgates.drift import compare, Profile\nfrom pytest_mlgates.drift.sources import ParquetSource\n"
)
TASKS: dict[str, tuple[str, str]] = {
    "scan (floor)": (
        OURS,
        "for path in (reference, current):\n"
        "    source = ParquetSource(__import__('pathlib').Path(path))\n"
        "    for batch in source.batches(source.schema.names): pass\n",
    ),
    "ours, both windows": (OURS, "report = compare(reference, current, mode='profile')\nassert len(report.features) == 50\n"),
    "ours, stored reference": (
        OURS,
        "stored = Profile.from_bytes(open(folder + '/reference.profile', 'rb').read())\n"
        "report = compare(stored, current)\nassert len(report.features) == 50\n",
    ),
    "ours, exact": (OURS, "report = compare(reference, current, mode='exact')\nassert len(report.features) == 50\n"),
    "Delta scan (floor)": (
        OURS + "from pytest_mlgates.lakehouse import Lakehouse\n",
        "house = Lakehouse(folder + '/lake')\n"
        "for table in ('b.reference', 'b.current'):\n"
        "    for batch in house.batches(table): pass\n",
    ),
    "ours, from Delta": (
        OURS + "from pytest_mlgates.lakehouse import Lakehouse\nfrom pytest_mlgates.engines.local import table_source\n",
        "house = Lakehouse(folder + '/lake')\n"
        "report = compare(table_source(house, 'b.reference'), table_source(house, 'b.current'), mode='profile')\n",
    ),
    "notebook (pandas + scipy)": (
        "import numpy as np, pandas as pd\nfrom scipy import stats\nfrom scipy.spatial.distance import jensenshannon\n",
        """
a, b = pd.read_parquet(reference), pd.read_parquet(current)
for column in a.columns:
    if column.startswith("n"):
        x, y = a[column].to_numpy(), b[column].to_numpy()
        edges = np.quantile(x, np.linspace(0, 1, 11)); edges[0], edges[-1] = -np.inf, np.inf
        p, q = np.histogram(x, edges)[0], np.histogram(y, edges)[0]
        stats.ks_2samp(x, y, method="asymp"); stats.wasserstein_distance(x, y)
    else:
        names = a[column].unique()
        p = a[column].value_counts().reindex(names).to_numpy()
        q = b[column].value_counts().reindex(names, fill_value=0).to_numpy()
    s, t = np.clip(p / p.sum(), 1e-6, None), np.clip(q / q.sum(), 1e-6, None)
    ((t - s) * np.log(t / s)).sum(); jensenshannon(s, t, base=2); stats.chi2_contingency([p, q])
""",
    ),
}
PEERS: dict[str, tuple[str, str]] = {
    "evidently": (
        "import pandas as pd\nfrom evidently import Report\nfrom evidently.presets import DataDriftPreset\n",
        "Report([DataDriftPreset()]).run(pd.read_parquet(current), pd.read_parquet(reference))\n",
    ),
    "nannyml": (
        "import pandas as pd\nimport nannyml as nml\n",
        "a, b = pd.read_parquet(reference), pd.read_parquet(current)\n"
        "calc = nml.UnivariateDriftCalculator(column_names=list(a.columns), continuous_methods=['kolmogorov_smirnov'],\n"
        "    categorical_methods=['chi2'], chunk_number=1)\ncalc.fit(a); calc.calculate(b)\n",
    ),
    "alibi-detect": (
        "import pandas as pd\nfrom alibi_detect.cd import KSDrift\n",
        "n = [f'n{i}' for i in range(40)]\n"
        "a, b = pd.read_parquet(reference, columns=n).to_numpy(), pd.read_parquet(current, columns=n).to_numpy()\n"
        "KSDrift(a, p_val=.01).predict(b)\n",
    ),
    "whylogs": (
        "import pandas as pd\nimport whylogs as why\n",
        "for path in (reference, current): why.log(pd.read_parquet(path)).view()\n",
    ),
    "frouros": (
        "import pandas as pd\nfrom frouros.detectors.data_drift import KSTest\n",
        "a, b = pd.read_parquet(reference), pd.read_parquet(current)\n"
        "for i in range(40):\n"
        "    d = KSTest(); d.fit(X=a[f'n{i}'].to_numpy()); d.compare(X=b[f'n{i}'].to_numpy())\n",
    ),
}


def write_rows(path: Path, rows: int, seed: int, shift: float = 0.0) -> None:
    """Write ``rows`` rows of 40 numeric and 10 text columns, a row group at a time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, GROUP_ROWS):
        count = min(GROUP_ROWS, rows - start)
        columns = {}
        for i in range(NUMERIC):
            draw = (rng.normal, rng.exponential, rng.gumbel, rng.logistic)[i % 4]
            columns[f"n{i}"] = draw(size=count) + (shift if i == 0 else 0.0)
        for i in range(CATEGORICAL):
            names = np.array([f"level_{k}" for k in range(4 + 5 * i)])
            columns[f"c{i}"] = pa.array(names[rng.integers(0, len(names), count)])
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=count)
    assert writer is not None
    writer.close()


def prepare(folder: Path, reference: Path, current: Path, *, delta: bool) -> None:
    import pyarrow.parquet as pq
    from deltalake import write_deltalake

    from pytest_mlgates.engines.local import LocalEngine

    (folder / "reference.profile").write_bytes(LocalEngine().profile(reference).to_bytes())
    if delta:
        for name, path in (("reference", reference), ("current", current)):
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(GROUP_ROWS):
                write_deltalake(str(folder / "lake" / "b" / name), batch, mode="append")


def measure(python: str, task: tuple[str, str], arguments: list[str]) -> dict[str, float] | str:
    """Run one task in a process of its own; the reason where it does not run."""
    code = SETUP + task[0] + START + task[1] + CLOSE
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True, env=env, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return dict(json.loads(line.removeprefix("RESULT ")))
    return (done.stderr.strip().splitlines() or ["no output"])[-1][:160]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=int, default=1_000_000)
    parser.add_argument("--current", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="tasks whose name holds one of these")
    parser.add_argument(
        "--large", action="store_true", help="a current window of 10,000,000 rows as well: memory must stay flat"
    )
    parser.add_argument(
        "--peer-python", nargs="*", default=[], metavar="[PEER=]PYTHON",
        help="interpreter that has the peers, or one for each: they hardly live together",
    )  # fmt: skip
    parser.add_argument("--json", help="write the figures here")
    options = parser.parse_args()
    peers = {name: python for name, _, python in (given.rpartition("=") for given in options.peer_python)}
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="mlgates-bench-") as scratch:
        folder = Path(scratch)
        reference, current = folder / "reference.parquet", folder / "current.parquet"
        write_rows(reference, options.reference, 1)
        write_rows(current, options.current, 2, 0.05)
        prepare(folder, reference, current, delta=True)
        tasks = {**TASKS, **PEERS}
        if options.large:
            large = folder / "large.parquet"
            write_rows(large, 10_000_000, 3)
        print(f"{options.reference:,} × 50 against {options.current:,} × 50 (40 numeric, 10 text), medians of {options.repeat}")
        floors = {"scan (floor)": 0.0, "Delta scan (floor)": 0.0}
        for name, task in tasks.items():
            if options.only and not any(part in name for part in options.only):
                continue
            python = peers.get(name, peers.get("", sys.executable)) if name in PEERS else sys.executable
            runs = [measure(python, task, [str(reference), str(current), str(folder)]) for _ in range(options.repeat)]
            good = [r for r in runs if isinstance(r, dict)]
            if not good:
                print(f"  {name:<28} not run: {runs[0]}")
                found[name] = runs[0]
                continue
            cpu, mb = (statistics.median(r[key] for r in good) for key in ("cpu", "mb"))
            if name in floors:
                floors[name] = cpu
            floor = floors["Delta scan (floor)" if "Delta" in name else "scan (floor)"]
            ratio = f"{cpu / floor:6.2f} × scan" if floor else ""
            print(f"  {name:<28} {cpu:8.2f} CPU s  {mb:7.0f} MB  {ratio}")
            found[name] = {"cpu": cpu, "mb": mb, "ratio": cpu / floor if floor else None}
        if options.large:
            for name in ("ours, both windows", "ours, stored reference"):
                got = measure(sys.executable, TASKS[name], [str(reference), str(large), str(folder)])
                print(f"  {name + ', 10M rows':<34} {got}")
                found[name + ", 10M rows"] = got
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
