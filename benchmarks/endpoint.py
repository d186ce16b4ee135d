"""Servers side by side on the same models: ours, ``mlflow models serve``, and BentoML where it is installed.

    python benchmarks/endpoint.py [--models ridge forest200 forest400 boosting] [--calls 2000] [--json PATH]

Two workers each, concurrency 8, single rows, our lean generator. Printed per server: CPU per request (the whole process tree), requests a
second, p99, CPU to start, PSS; then our ratios against ``mlflow models serve`` beside what they should be. On a machine that is
busy with other things the CPU ratios are the ones to judge by.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from pytest_mlgates.endpoint import server
from pytest_mlgates.registry.store import MlflowRegistry
from pytest_mlgates.services import load_drive

NUMERIC = ["day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue"]
TARGETS = {  # of MLflow's: CPU per request, throughput, p99 at most/at least these factors
    "ridge": {"cpu": 12, "rate": 10, "p99": 10},
    "forest200": {"cpu": 20, "rate": 20, "p99": 15},
    "forest400": {"cpu": 20, "rate": 20, "p99": 15},
    "boosting": {"cpu": 4, "rate": 5, "p99": 5},
}
START_FACTOR, PSS_FACTOR = 4, 2
FOREIGN_CALLS = {"ridge": 600, "forest200": 160, "forest400": 100, "boosting": 400}


def models() -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "ridge": make_pipeline(StandardScaler(), Ridge()),
        "forest200": RandomForestRegressor(200, max_depth=8, min_samples_leaf=5, n_jobs=1, random_state=0),
        "forest400": RandomForestRegressor(400, max_depth=12, min_samples_leaf=2, n_jobs=1, random_state=0),
        "boosting": HistGradientBoostingRegressor(max_iter=100, random_state=0),
    }


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_s(pid: int) -> float:
    """CPU of a process tree, dead and reaped children included."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def pss_mb(pid: int) -> float:
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


@contextlib.contextmanager
def ours(settings: Path, name: str, folder: Path) -> Iterator[tuple[str, int]]:
    with server.start(settings, model=name, stage="1", state=folder, wait_s=300) as running:
        yield running.uri, running.pid


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], folder: Path, ready: str, environment: dict[str, str]) -> Iterator[int]:
    """Start another's server, wait until ``ready`` answers, yield its process id, end its process tree."""
    log = folder / "server.log"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # they call their own commands
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": path, **environment},
            cwd=folder,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(ready, timeout=5).status_code == 200:
                    break
            time.sleep(0.2)
        else:  # it ended, or time is up
            raise SystemExit(f"{' '.join(command[2:5])} did not start: {log.read_text()[-500:]}")
        yield process.pid
    finally:
        everyone = tree(process.pid) if process.poll() is None else []
        for each in everyone:
            with contextlib.suppress(psutil.Error):
                each.terminate()
        psutil.wait_procs(everyone, timeout=10)


def _model(settings: Path, name: str) -> str:
    registry = MlflowRegistry(f"sqlite:///{settings.parent / 'mlflow.db'}")
    return str(registry.artifact_folder(registry.get(name, "1")))


@contextlib.contextmanager
def mlflow_serve(settings: Path, name: str, folder: Path) -> Iterator[tuple[str, int]]:
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", _model(settings, name), "--env-manager", "local"]
    command += ["-h", "127.0.0.1", "-p", str(port), "-w", "2"]
    with _running(command, folder, f"http://127.0.0.1:{port}/ping", {}) as pid:
        yield f"http://127.0.0.1:{port}/invocations", pid


BENTO = """
import os
import bentoml, mlflow, pandas

@bentoml.service(workers=2, traffic={"timeout": 120})
class Model:
    def __init__(self):
        self.model = mlflow.pyfunc.load_model(os.environ["BENCHMARK_MODEL"])

    @bentoml.api
    def predict(self, dataframe_split: dict) -> dict:
        frame = pandas.DataFrame(dataframe_split["data"], columns=dataframe_split["columns"])
        return {"predictions": self.model.predict(frame).tolist()}
"""


@contextlib.contextmanager
def bentoml_serve(settings: Path, name: str, folder: Path) -> Iterator[tuple[str, int]]:
    port = _free_port()
    (folder / "service.py").write_text(BENTO)
    command = [sys.executable, "-m", "bentoml", "serve", "service:Model", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder), "BENCHMARK_MODEL": _model(settings, name)}
    with _running(command, folder, f"http://127.0.0.1:{port}/readyz", environment) as pid:
        yield f"http://127.0.0.1:{port}/predict", pid


SERVERS = {"ours": ours, "mlflow": mlflow_serve, "bentoml": bentoml_serve}


def measure(kind: str, name: str, settings: Path, calls: int) -> dict[str, float]:
    from tests.endpoint.serving_project import rows

    data = rows(256, 99)[NUMERIC].to_numpy().tolist()
    key = "input_data" if kind == "ours" else "dataframe_split"
    bodies = [json.dumps({key: {"columns": NUMERIC, "data": [row]}}) for row in integral(data)]
    with tempfile.TemporaryDirectory() as folder, SERVERS[kind](settings, name, Path(folder)) as (uri, pid):
        started = cpu_s(pid)
        # warm-up calls cost the server too: count them in
        driven = load_drive.Load(n=calls, concurrency=8, warmup=64, timeout_s=120)
        before = cpu_s(pid)
        samples, generator = load_drive.drive(uri, bodies, driven)
        used = cpu_s(pid) - before
        memory = pss_mb(pid)
    wrong = [k for k in samples.kinds if k and not (kind != "ours" and k == "schema")]  # others answer in other shapes
    if wrong:
        raise SystemExit(f"{kind} {name}: {len(wrong)} errors, the first: {wrong[0]}")
    ends = np.asarray(samples.start_s) + np.asarray(samples.latency_s)
    return {
        "cpu_ms": used * 1e3 / (calls + 64),
        "rate": calls / float(ends.max()),
        "p50_ms": float(np.quantile(samples.latency_s, 0.5)) * 1e3,
        "p99_ms": float(np.quantile(samples.latency_s, 0.99)) * 1e3,
        "start_cpu_s": started,
        "pss_mb": memory,
        "generator_cpu_ms": generator.cpu_ms_per_request,
    }


def integral(data: list[list[float]]) -> list[list[Any]]:
    return [[int(v) if i < 3 else v for i, v in enumerate(row)] for row in data]


def report(name: str, own: dict[str, float], other: dict[str, float]) -> bool:
    target = TARGETS[name]
    lines = [
        ("CPU per request", own["cpu_ms"], other["cpu_ms"], "ms", target["cpu"], other["cpu_ms"] / own["cpu_ms"]),
        ("throughput", own["rate"], other["rate"], "/s", target["rate"], own["rate"] / other["rate"]),
        ("p99", own["p99_ms"], other["p99_ms"], "ms", target["p99"], other["p99_ms"] / own["p99_ms"]),
        (
            "CPU to start",
            own["start_cpu_s"],
            other["start_cpu_s"],
            "s",
            START_FACTOR,
            other["start_cpu_s"] / own["start_cpu_s"],
        ),
        ("PSS", own["pss_mb"], other["pss_mb"], "MB", PSS_FACTOR, other["pss_mb"] / own["pss_mb"]),
    ]
    print(f"\n{name}: ours against mlflow models serve")
    held = True
    for label, mine, theirs, unit, wanted, factor in lines:
        held &= factor >= wanted
        mark = "ok" if factor >= wanted else "MISSED"
        print(f"  {label:<16}{mine:10.2f} {unit:<3}{theirs:10.2f} {unit:<3} {factor:6.1f} x better (wanted {wanted} x)  {mark}")
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--models", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bento = importlib.util.find_spec("bentoml") is not None
    if not bento:
        print("bentoml is not installed: left out")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # inherited by every server
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.endpoint.serving_project import SETTINGS, register, rows

    print(f"load average before the run: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    found: dict[str, Any] = {}
    held = True
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mlgates.toml"
        settings.write_text(SETTINGS)
        made = models()
        for name in args.models:
            register(Path(folder), name, made[name], rows(5000))
        for name in args.models:
            own = measure("ours", name, settings, args.calls)
            other = measure("mlflow", name, settings, FOREIGN_CALLS[name])
            found[name] = {"ours": own, "mlflow": other}
            held &= report(name, own, other)
            if bento:
                found[name]["bentoml"] = third = measure("bentoml", name, settings, FOREIGN_CALLS[name])
                print("  bentoml, for comparison: " + ", ".join(f"{key} {value:.2f}" for key, value in third.items()))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
