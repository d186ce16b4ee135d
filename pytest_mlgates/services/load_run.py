"""Run a load test: Locust drives in processes of its own, the samples come back by file, `load` judges."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytest_mlgates import load
from pytest_mlgates.addresses import TOKEN_VARIABLE, scoring_uri, sibling
from pytest_mlgates.errors import EndpointError, ExtraMissing, UsageProblem
from pytest_mlgates.ports import ModelRegistry
from pytest_mlgates.results import Verdict
from pytest_mlgates.services.load_drive import WARMUP, Load, drive

GENERATED_ROWS = 64
LOAD_TAG = "mlgates.load_test"
TUTORIAL_COLUMNS = ("day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue")
TUTORIAL_ROW = (5, 0, 1, 412900.0, 405200.0)


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
    master: str | None = None,
) -> load.LoadSummary:
    """Load-test an endpoint and judge it.

    Parameters
    ----------
    uri
        Scoring URI, or the server's address.
    n
        Counted calls, exactly; warm-up comes on top.
    rows, columns
        One row per request, in turn; by default made from the signature that the server publishes at ``/schema``, and where it
        publishes none the tutorial's own row; the summary says which.
    rate_per_s
        Open loop at this constant rate; ``None``: closed loop at ``concurrency``.
    versions
        Versions that an answer may carry; by default those that ``/health`` names; empty: any.
    max_errors
        See `load.judge`.
    master
        Listen here (``HOST[:PORT]``) for ``processes`` Locust workers, instead of starting them.

    Raises
    ------
    ExtraMissing
        Locust is not installed.
    EndpointError
        The endpoint cannot be reached, or the generator failed.
    UsageProblem
        Numbers that cannot be driven, or no rows for a model without a signature.
    """
    driven = Load(n, concurrency, rate_per_s, processes, warmup, timeout_s, retry_reset, master)
    need_locust()
    seen = health(uri, token)
    sent = "given"
    if rows is None:
        sent, columns, rows = made_up_rows(uri, token=token, seed=seed)
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
        rows=sent,
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
) -> tuple[str, list[str], list[list[Any]]]:
    """Rows of the types of the signature that the server publishes: small integers, numbers up to a million, short words.

    A server that publishes none is sent the tutorial's own row. The first value says what the rows are.

    Raises
    ------
    UsageProblem
        The served model has no signature.
    """
    found = _page(uri, "/schema", token)
    schema = found.get("inputSignature") if found is not None else None
    if schema is None:
        return "the tutorial's row, as there is no /schema to make others from", list(TUTORIAL_COLUMNS), [list(TUTORIAL_ROW)]
    if not schema:
        raise UsageProblem(f"{uri}: the model has no signature to make rows from; give rows with --payload FILE")
    rng = random.Random(seed)
    make: dict[str, Callable[[], Any]] = {
        "long": lambda: rng.randint(0, 6),
        "integer": lambda: rng.randint(0, 6),
        "boolean": lambda: rng.random() < 0.5,
        "string": lambda: rng.choice(["a", "b", "c"]),
        "datetime": lambda: f"{rng.randint(2000, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T12:00:00",
    }

    def number() -> float:
        return round(rng.uniform(0, 1e6), 2)

    names = [str(c["name"]) for c in schema]
    return "made from /schema", names, [[make.get(c["type"], number)() for c in schema] for _ in range(count)]


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


def health(uri: str, token: str | None = None) -> dict[str, Any]:
    """What ``/health`` says; empty for a foreign endpoint without one. Raises EndpointError for one that cannot be reached."""
    return _page(uri, "/health", token) or {}


def _page(uri: str, page: str, token: str | None) -> dict[str, Any] | None:
    """A page of the endpoint, ``None`` where it has none. Raises EndpointError when nobody listens."""
    import httpx

    token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
    headers = {"authorization": f"Bearer {token}"} if token else {}
    address = sibling(uri, page)
    try:
        answer = httpx.get(address, headers=headers, timeout=10.0)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):  # it is there, but knows no such page
        return None
    except httpx.HTTPError as error:
        raise EndpointError(f"{address} did not answer: {type(error).__name__}: {error}; is the endpoint running?") from error
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if answer.status_code == 200 and isinstance(found, dict) else None
