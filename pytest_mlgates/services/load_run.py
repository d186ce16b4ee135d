"""Run a load test: Locust drives in processes of its own, the samples come back by file, `load` judges."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlgates import load, suite
from pytest_mlgates.addresses import TOKEN_VARIABLE, scoring_uri, sibling
from pytest_mlgates.errors import EndpointError, ExtraMissing, UsageProblem
from pytest_mlgates.ports import ModelRegistry
from pytest_mlgates.results import Verdict

WARMUP = 50
"""Calls before the counted ones, over all connections: first answers pay for connections and cold caches."""
GENERATED_ROWS = 64
_GRACE_S = 60.0


LOAD_TAG = "mlgates.load_test"


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What to drive: a closed loop of ``n`` calls at ``concurrency``, or an open loop at ``rate_per_s`` for ``n`` calls."""

    n: int = 1000
    concurrency: int = 8
    rate_per_s: float | None = None
    processes: int = 1
    warmup: int = WARMUP
    timeout_s: float = 30.0
    retry_reset: bool = False

    def __post_init__(self) -> None:
        if self.n < 1 or self.concurrency < 1 or self.processes < 1:
            raise UsageProblem("n, concurrency and processes must be at least 1")
        if self.rate_per_s is not None and not 0 < self.rate_per_s < math.inf:
            raise UsageProblem(f"the rate must be above 0 requests a second, got {self.rate_per_s:g}")
        if self.processes > min(self.n, self.concurrency) and self.rate_per_s is None:
            raise UsageProblem(f"{self.processes} processes cannot share {self.n} calls at concurrency {self.concurrency}")


def run(
    uri: str,
    *,
    n: int = 1000,
    concurrency: int = 8,
    objective_ms: float = 200.0,
    rows: Sequence[Sequence[Any]] | None = None,
    columns: Sequence[str] | None = None,
    token: str | None = None,
    rate_per_s: float | None = None,
    processes: int = 1,
    warmup: int = WARMUP,
    timeout_s: float = 30.0,
    retry_reset: bool = False,
    versions: Sequence[str] | None = None,
    max_errors: int = 0,
    seed: int = 0,
) -> load.LoadSummary:
    """Load-test an endpoint and judge it.

    Parameters
    ----------
    uri
        Scoring URI, or the server's address.
    n
        Counted calls, exactly; warm-up comes on top.
    rows, columns
        One row per request, in turn; by default made from the signature that the server publishes at ``/schema``.
    rate_per_s
        Open loop at this constant rate; ``None``: closed loop at ``concurrency``.
    versions
        Versions that an answer may carry; by default those that ``/health`` names; empty: any.
    max_errors
        See `load.judge`.

    Raises
    ------
    ExtraMissing
        Locust is not installed.
    EndpointError
        The endpoint cannot be reached, or the generator failed.
    UsageProblem
        Numbers that cannot be driven, or no rows and no ``/schema`` to make them from.
    """
    driven = Load(n, concurrency, rate_per_s, processes, warmup, timeout_s, retry_reset)
    need_locust()
    seen = _health(uri, token)
    if rows is None:
        columns, rows = made_up_rows(uri, token=token, seed=seed)
    if versions is None:
        versions = sorted(seen.get("versions", {})) or ([str(seen["model_version"])] if seen.get("model_version") else [])
    bodies = [
        json.dumps({"input_data": {"columns": list(columns or []), "data": [list(row)]}}, allow_nan=False) for row in rows
    ]
    samples, generator = drive(scoring_uri(uri), bodies, driven, versions=versions, token=token)
    return load.judge(
        samples,
        objective_ms=objective_ms,
        concurrency=concurrency,
        asked_rate_per_s=rate_per_s,
        generator=generator,
        max_errors=max_errors,
        model=str(seen.get("model_name") or ""),
        version=str(seen.get("model_version") or ""),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Ramp:
    """A search for the highest rate that still holds the objective: the answer (0: none did) and every step, in order."""

    best_per_s: float
    steps: tuple[load.LoadSummary, ...]


def ramp(
    uri: str,
    *,
    start_per_s: float = 50.0,
    step_s: float = 5.0,
    most_per_s: float = 5000.0,
    resolution: float = 0.1,
    **options: Any,
) -> Ramp:
    """Find the highest open-loop rate at which `run` passes: double until it does not, then halve the gap.

    Parameters
    ----------
    start_per_s, most_per_s
        First rate, and the rate above which the search ends.
    step_s
        Seconds per step (at least 1,000 calls are made all the same: fewer cannot pass).
    resolution
        The search ends when the gap between the best and the next failing rate is this share of the best.
    options
        As in `run`.

    Notes
    -----
    A step whose measurement is invalid counts as not held: beyond it the generator, not the endpoint, would be found.
    """
    steps: list[load.LoadSummary] = []

    def holds(rate: float) -> bool:
        steps.append(run(uri, n=max(round(rate * step_s), 1000), rate_per_s=rate, **options))
        return steps[-1].verdict is Verdict.PASS

    good, rate = 0.0, start_per_s
    while rate <= most_per_s and holds(rate):
        good, rate = rate, rate * 2
    bad = rate
    while good and bad <= most_per_s and bad - good > resolution * good:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return Ramp(good, tuple(steps))


def drive(
    uri: str,
    bodies: Sequence[str],
    driven: Load,
    *,
    versions: Sequence[str] = (),
    token: str | None = None,
    rows_per_request: int = 1,
) -> tuple[load.Samples, load.Generator]:
    """Drive an endpoint with request bodies, in turn; return every counted call and what the generator saw of itself."""
    with tempfile.TemporaryDirectory(prefix="mlgates-load-") as folder:
        shares = [_share(driven, i) for i in range(driven.processes)]
        plans = []
        for i, share in enumerate(shares):
            plan = {
                "uri": uri, "bodies": list(bodies[i:]) + list(bodies[:i]), "rows_per_request": rows_per_request,
                "versions": list(versions), "samples": str(Path(folder) / f"samples-{i}.json"), **share,
            }  # fmt: skip
            plans.append(plan)
        running = [_start(plan, Path(folder) / f"plan-{i}.json", token) for i, plan in enumerate(plans)]
        deadline = time.monotonic() + _longest(driven)
        try:
            outputs = [_wait(process, deadline) for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        parts = [_read(plan["samples"], output) for plan, output in zip(plans, outputs, strict=True)]
    return _merge(parts, driven)


def store(registry: ModelRegistry, summary: load.LoadSummary) -> str:
    """Store a result with the run of the version that was served, as ``mlgates/load/TIME.json``; return that path.

    Raises
    ------
    UsageProblem
        The endpoint did not say which model and version it serves.
    """
    if not summary.model or not summary.version:
        raise UsageProblem("the endpoint's /health names no model and version to store the result with")
    version = registry.get(summary.model, summary.version)
    path = f"mlgates/load/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    registry.log_artifact(version, path, json.dumps(summary.to_dict(), indent=2).encode())
    registry.set_version_tag(version.name, version.version, LOAD_TAG, path)
    return path


def need_locust() -> None:
    """Raise ExtraMissing unless Locust is installed; Locust itself is never imported here."""
    for module in ("locust", "httptools", "msgspec"):
        if importlib.util.find_spec(module) is None:
            raise ExtraMissing.of(module, "load" if module == "locust" else "serve", "the load test")


def made_up_rows(
    uri: str, *, token: str | None = None, count: int = GENERATED_ROWS, seed: int = 0
) -> tuple[list[str], list[list[Any]]]:
    """Rows of the types of the signature that the server publishes: small integers, numbers up to a million, short words.

    Raises
    ------
    UsageProblem
        The server publishes no signature.
    """
    found = _page(uri, "/schema", token)
    schema = found.get("inputSignature") if found is not None else None
    if schema is None:
        raise UsageProblem(f"{uri}: no /schema to make rows from; give rows with --payload FILE")
    if not schema:
        raise UsageProblem(f"{uri}: the model has no signature to make rows from; give rows with --payload FILE")
    rng = random.Random(seed)
    make: dict[str, Callable[[], Any]] = {
        "long": lambda: rng.randint(0, 6),
        "integer": lambda: rng.randint(0, 6),
        "boolean": lambda: rng.random() < 0.5,
        "string": lambda: rng.choice(["a", "b", "c"]),
    }

    def number() -> float:
        return round(rng.uniform(0, 1e6), 2)

    names = [str(c["name"]) for c in schema]
    return names, [[make.get(c["type"], number)() for c in schema] for _ in range(count)]


def read_rows(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Read rows for the requests from a file: the tutorial's JSON body, a JSON list of objects, CSV or Parquet.

    Raises
    ------
    UsageProblem
        The file cannot be read as any of these, or holds no row.
    """
    try:
        if path.suffix in (".csv", ".parquet"):
            import pandas as pd

            frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
            split = json.loads(frame.to_json(orient="split", date_format="iso"))
            columns, rows = split["columns"], split["data"]
        else:
            found = json.loads(path.read_text("utf-8"))
            if isinstance(found, dict):
                columns, rows = found["input_data"]["columns"], found["input_data"]["data"]
            else:
                columns = list(found[0])
                rows = [[row[name] for name in columns] for row in found]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UsageProblem(
            f'{path}: no rows to send ({type(error).__name__}: {error}); expected {{"input_data": {{"columns": […], "data": [[…]]}}}}, '
            f"a JSON list of objects, .csv or .parquet"
        ) from None
    if not rows:
        raise UsageProblem(f"{path}: no rows to send: the file is empty")
    return [str(c) for c in columns], rows


def _health(uri: str, token: str | None) -> dict[str, Any]:
    """What /health says; a foreign endpoint without one may still be tested, one that cannot be reached may not."""
    return _page(uri, "/health", token) or {}


def _page(uri: str, page: str, token: str | None) -> dict[str, Any] | None:
    """A page of the endpoint, ``None`` where it has none. Raises EndpointError when nothing answers at all."""
    import httpx

    token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
    headers = {"authorization": f"Bearer {token}"} if token else {}
    address = sibling(uri, page)
    try:
        answer = httpx.get(address, headers=headers, timeout=30.0)
    except httpx.HTTPError as error:
        raise EndpointError(f"{address} did not answer: {type(error).__name__}: {error}; is the endpoint running?") from error
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if answer.status_code == 200 and isinstance(found, dict) else None


def _share(driven: Load, index: int) -> dict[str, Any]:
    """One process's share of the load; shares add up to the whole."""

    def part(total: int) -> int:
        return total // driven.processes + (index < total % driven.processes)

    concurrency = max(part(driven.concurrency), 1)
    rate = None if driven.rate_per_s is None else driven.rate_per_s * part(driven.n) / driven.n
    return {
        "n": part(driven.n),
        "concurrency": concurrency,
        "rate_per_s": rate,
        "warmup_each": max(driven.warmup // max(driven.concurrency, 1), 1) if driven.warmup else 0,
        "warm_connections": concurrency,
        "timeout_s": driven.timeout_s,
        "retry_reset": driven.retry_reset,
    }


def _start(plan: dict[str, Any], path: Path, token: str | None) -> subprocess.Popen[str]:
    path.write_text(json.dumps(plan), "utf-8")
    users = 1 if plan["rate_per_s"] is not None else plan["concurrency"]
    command = [sys.executable, "-m", "locust", "-f", str(suite.folder("loadtest") / "locustfile.py"), "--headless"]
    command += [
        "-u",
        str(users),
        "-r",
        str(users),
        "--host",
        plan["uri"],
        "--only-summary",
        "--reset-stats",
        "--loglevel",
        "WARNING",
    ]
    command += ["--stop-timeout", "1", "--exit-code-on-error", "0"]
    environment = {**os.environ, "MLGATES_LOAD_PLAN": str(path)}
    if token:
        environment[TOKEN_VARIABLE] = token
    # the package, wherever it was imported from, and no locust.conf of the current folder
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(suite.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    ).rstrip(os.pathsep)
    return subprocess.Popen(
        command,
        cwd=path.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _longest(driven: Load) -> float:
    """Seconds after which the generator is given up."""
    if driven.rate_per_s is not None:
        return driven.n / driven.rate_per_s + driven.timeout_s + _GRACE_S
    return _GRACE_S + driven.timeout_s * max(2.0, driven.n / driven.concurrency / 20)


def _wait(process: subprocess.Popen[str], deadline: float) -> str:
    try:
        output, _ = process.communicate(timeout=max(deadline - time.monotonic(), 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        raise EndpointError("the load generator did not end in time; is the endpoint answering at all?") from None
    return output


def _read(path: str, output: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        words = " | ".join(line.strip() for line in output.splitlines()[-4:] if line.strip())
        raise EndpointError(f"the load generator left no samples: {words or 'no output'}") from None
    return found


def _merge(parts: Sequence[dict[str, Any]], driven: Load) -> tuple[load.Samples, load.Generator]:
    # an open loop's starts count from its schedule's begin, which the processes share only roughly; a closed loop's from a common clock
    columns = {
        key: np.concatenate([np.asarray(p[key], dtype=float) for p in parts]) for key in ("start", "latency", "service", "lag")
    }
    kinds = [kind for p in parts for kind in p["kinds"]]
    if len(kinds) != driven.n:
        raise EndpointError(f"the load generator counted {len(kinds)} of {driven.n} calls; nothing is judged on a part")
    order = np.argsort(columns["start"], kind="stable")
    start = columns["start"][order]
    samples = load.Samples(
        start - start[0], columns["latency"][order], columns["service"][order], columns["lag"][order], [kinds[i] for i in order]
    )
    cpu = sum(p["cpu_s"] for p in parts)
    busiest = max(p["cpu_s"] / max(p["wall_s"], 1e-9) for p in parts)
    return samples, load.Generator(busiest, cpu * 1e3 / driven.n, len(parts))
