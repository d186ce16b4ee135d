"""Drive an endpoint: Locust processes on this machine, or a Locust master here with workers elsewhere; the samples come back by file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlgates import load, suite
from pytest_mlgates.addresses import TOKEN_VARIABLE
from pytest_mlgates.errors import EndpointError, UsageProblem

WARMUP = 50
"""Calls before the counted ones, over all connections: first answers pay for connections and cold caches."""
MASTER_PORT = 5557
WORKERS_WAIT_S = 60
_GRACE_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What to drive: a closed loop of ``n`` calls at ``concurrency``, or an open loop at ``rate_per_s`` for ``n`` calls.

    With ``master`` (``HOST[:PORT]`` to listen on) the ``processes`` are Locust workers that connect to it, from this machine or others.
    """

    n: int = 1000
    concurrency: int = 8
    rate_per_s: float | None = None
    processes: int = 1
    warmup: int = WARMUP
    timeout_s: float = 30.0
    retry_reset: bool = False
    master: str | None = None

    def __post_init__(self) -> None:
        if self.n < 1 or self.concurrency < 1 or self.processes < 1:
            raise UsageProblem("n, concurrency and processes must be at least 1")
        if self.rate_per_s is not None and not 0 < self.rate_per_s < math.inf:
            raise UsageProblem(f"the rate must be above 0 requests a second, got {self.rate_per_s:g}")
        if self.processes > min(self.n, self.concurrency) and self.rate_per_s is None:
            raise UsageProblem(f"{self.processes} processes cannot share {self.n} calls at concurrency {self.concurrency}")


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
        plans = []
        for i in range(driven.processes):
            plan = {
                "uri": uri, "bodies": list(bodies[i:]) + list(bodies[:i]), "rows_per_request": rows_per_request,
                "versions": list(versions), "samples": str(Path(folder) / f"samples-{i}.json"), **_share(driven, i),
            }  # fmt: skip
            plans.append(plan)
        if driven.master is None:
            given: list[dict[str, Any]] = plans
            options = [["-u", "1", "-r", "1"]] * driven.processes
            longest = _longest(driven)
        else:
            given = [{"uri": uri, "plans": plans, "samples": str(Path(folder) / "samples.json")}]
            options = [_master_options(driven.master, driven.processes)]
            longest = _longest(driven) + WORKERS_WAIT_S
        parts = _processes(given, options, Path(folder), longest, token)
    return _merge(parts if driven.master is None else parts[0]["parts"], driven)


def work(master: str) -> int:
    """Be a worker of the master at ``HOST[:PORT]`` until its load test ends; return Locust's exit code."""
    host, port = _host_and_port(master)
    command = [*_locust(), "--worker", "--master-host", host, "--master-port", str(port)]
    return subprocess.run(command, env=_environment(None), stdin=subprocess.DEVNULL, check=False).returncode


def _processes(
    given: Sequence[dict[str, Any]], options: Sequence[list[str]], folder: Path, longest_s: float, token: str | None
) -> list[dict[str, Any]]:
    """Run a Locust process per plan; return what each left in its samples file."""
    running = [
        _start(plan, extra, folder / f"plan-{i}.json", token)
        for i, (plan, extra) in enumerate(zip(given, options, strict=True))
    ]
    deadline = time.monotonic() + longest_s
    try:
        outputs = [_wait(process, deadline) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    return [_read(plan["samples"], output) for plan, output in zip(given, outputs, strict=True)]


def _master_options(master: str, workers: int) -> list[str]:
    host, port = _host_and_port(master)
    return [
        "-u", str(workers), "-r", str(workers), "--master", "--master-bind-host", host, "--master-bind-port", str(port),
        "--expect-workers", str(workers), "--expect-workers-max-wait", str(WORKERS_WAIT_S),
    ]  # fmt: skip


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    if not host or not (port or str(MASTER_PORT)).isdecimal():
        raise UsageProblem(f"{address!r} is no address of a master; expected HOST or HOST:PORT")
    return host, int(port or MASTER_PORT)


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
        "timeout_s": driven.timeout_s,
        "retry_reset": driven.retry_reset,
    }


def _start(plan: dict[str, Any], options: list[str], path: Path, token: str | None) -> subprocess.Popen[str]:
    path.write_text(json.dumps(plan), "utf-8")
    command = [*_locust(), "--headless", *options, "--host", plan["uri"], "--only-summary", "--reset-stats"]
    command += ["--stop-timeout", "1", "--exit-code-on-error", "0"]
    environment = _environment(token) | {"MLGATES_LOAD_PLAN": str(path)}
    return subprocess.Popen(
        command,
        cwd=path.parent,  # no locust.conf of the current folder
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _locust() -> list[str]:
    file = str(suite.folder("loadtest") / "locustfile.py")
    return [sys.executable, "-m", "locust", "-f", file, "--loglevel", "WARNING"]


def _environment(token: str | None) -> dict[str, str]:
    """Ours, with the token, and the package wherever it was imported from."""
    environment = {k: v for k, v in os.environ.items() if k != "MLGATES_LOAD_PLAN"}
    if token:
        environment[TOKEN_VARIABLE] = token
    path = [str(Path(suite.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path).rstrip(os.pathsep)
    return environment


def _longest(driven: Load) -> float:
    """Seconds after which the generator is given up."""
    if driven.rate_per_s is not None:
        return driven.n / driven.rate_per_s + 2 * driven.timeout_s + _GRACE_S
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
    # starts are wall-clock times: processes on one machine share a clock, machines share theirs as well as they are set
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
