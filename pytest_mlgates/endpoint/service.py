"""The versions that one worker serves, and how they change while it serves.

The worker watches `routes.RoutesFile`; a new generation is loaded in a thread, proved, and swapped in between two requests.
One worker of the endpoint (whoever holds the lock) also follows the registry: when promotion moves the stage, it writes the
next generation for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Protocol

from pytest_mlgates.endpoint.canary import VersionStats
from pytest_mlgates.endpoint.metrics import Metrics
from pytest_mlgates.endpoint.routes import Routes, RoutesFile, Target
from pytest_mlgates.endpoint.schema import BadRequest, Rows
from pytest_mlgates.endpoint.scorer import Scorer
from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.ports import Predictor

log = logging.getLogger("pytest_mlgates.endpoint")

WATCH_EVERY_S = 0.2
PROVE_AFTER_S = 30.0
_SHADOW_QUEUE = 1000
SHADOW_PREFIX = "shadow:"
"""Before the request id of a shadow's row in the prediction log: the rest is the id of the request that the champion answered."""


class NotReady(Exception):
    """No model is loaded yet."""


class ModelSource(Protocol):
    """Where versions come from; given by whoever starts the server."""

    def target(self, model: str, selector: str, percent: float = 100.0) -> Target:
        """What a stage, ``@alias`` or version means now: its files fetched, its way proven. Raises ModelNotFound, ModelUnusable."""

    def load(self, target: Target, label: str) -> Predictor:
        """Load the model of a target; asks the registry nothing. Raises ModelUnusable."""

    def prove(self, state: RoutesFile) -> None:
        """Have the routes' assumed targets compared with MLflow's answers."""

    def follow(self, state: RoutesFile) -> None:
        """Look at the registry; where what is followed has moved, have the next generation written (`advance`)."""


class ScoringService:
    """Scorers by version, and the routes that choose among them.

    Parameters
    ----------
    source
        See `ModelSource`.
    state
        The endpoint's routes.
    metrics
        Shared counters.
    preloaded
        Scorers by folder and by whether they do without MLflow, loaded by the parent process already, not prepared (shared memory,
        soon ready).
    follow_every_s
        Seconds between two looks at the registry; 0: never.
    max_rows
        See `schema.InputSchema`.
    """

    def __init__(
        self,
        source: ModelSource,
        state: RoutesFile,
        metrics: Metrics,
        *,
        preloaded: dict[tuple[str, bool], Scorer] | None = None,
        follow_every_s: float = 5.0,
        max_rows: int = 10_000,
    ) -> None:
        self._source = source
        self._state = state
        self._metrics = metrics
        self._preloaded = preloaded or {}
        self._follow_every_s = follow_every_s
        self._max_rows = max_rows
        self._routes = state.read()
        self._scorers: dict[str, Scorer] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._follower = ThreadPoolExecutor(max_workers=1, thread_name_prefix="follow")
        self._shadow_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")
        self._shadow_waiting = 0
        self._leader: IO[str] | None = None
        self._started = time.time()
        self._stats: dict[str, VersionStats] = {}
        self._reported = -1
        self._trouble = ""
        self.on_shadow: Callable[[Scorer, Rows, list[Any], float, str], None] | None = None

    @property
    def model(self) -> str:
        """Registered name of the model."""
        return self._routes.model

    async def start(self) -> None:
        """Load what the routes name and begin to watch them. Raises MlgatesError when nothing can be served."""
        self._loop = asyncio.get_running_loop()
        stamp = self._state.stamp()
        await self._adopt(self._state.read())
        self._tasks = [asyncio.create_task(self._watch(stamp))]
        if self._follow_every_s > 0:
            self._tasks.append(asyncio.create_task(self._follow()))
        self._tasks.append(asyncio.create_task(self._prove()))

    async def stop(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._leader is not None:
            self._leader.close()

    def choose(self, request_id: str, version: str | None = None) -> Scorer:
        """Return the scorer for a request id, or of a version asked for by name. Raises NotReady, BadRequest."""
        if version is not None:
            found = self._scorers.get(version)
            if found is None or all(t.version != version for t in self._routes.targets):
                served = ", ".join(t.version for t in self._routes.targets)
                raise BadRequest(f"version {version!r} is not active; active: {served}", status=404)
            return found
        try:
            return self._scorers[self._routes.pick(request_id)]
        except (KeyError, IndexError):
            raise NotReady("no model is loaded") from None

    def refused(self, scorer: Scorer) -> None:
        """Count a request that the model could not answer."""
        self._stats_of(scorer.version).failed()

    def observe(self, scorer: Scorer, rows: Rows, predictions: list[Any], latency_ms: float, request_id: str) -> None:
        """Count an answered request; give it to the shadow version, which scores it in the background."""
        self._stats_of(scorer.version).answered(predictions, latency_ms)
        shadow = self._routes.shadow
        if shadow is None or self._shadow_waiting >= _SHADOW_QUEUE:
            return
        self._shadow_waiting += 1
        self._shadow_pool.submit(self._score_in_shadow, self._scorers[shadow.version], rows, request_id)

    def health(self) -> dict[str, Any]:
        """What ``/health`` answers."""
        ready = bool(self._scorers)
        return {
            "status": "ok" if ready else "loading",
            "model_name": self._routes.model,
            "model_version": self._routes.targets[0].version if self._routes.targets else None,
            "versions": {t.version: t.percent for t in self._routes.targets},
            "shadow": self._routes.shadow.version if self._routes.shadow else None,
            "scored_by": {v: s.way.single for v, s in self._scorers.items()},
            "generation": self._routes.generation,
            "uptime_s": round(time.time() - self._started, 1),
        }

    def schema(self) -> dict[str, Any]:
        """What ``/schema`` answers: Fabric's names for the signature's columns."""
        version = self._routes.targets[0].version if self._routes.targets else ""
        scorer = self._scorers.get(version)
        columns = scorer.inputs if scorer else ()
        return {
            "model_name": self._routes.model,
            "model_version": version,
            "inputSignature": [{"name": c.name, "type": c.type, "required": c.required} for c in columns],
        }

    def _stats_of(self, version: str) -> VersionStats:
        return self._stats.setdefault(version, VersionStats())

    def _score_in_shadow(self, scorer: Scorer, rows: Rows, request_id: str) -> None:
        start = time.perf_counter()
        predictions: list[Any] | None = None
        try:
            predictions = scorer.score(rows)
        except BadRequest:
            pass
        except Exception:
            log.exception("shadow v%s, request %s", scorer.version, request_id)
        took_ms = (time.perf_counter() - start) * 1e3
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody counts any more
            self._loop.call_soon_threadsafe(self._shadow_scored, scorer, rows, predictions, took_ms, request_id)

    def _shadow_scored(
        self, scorer: Scorer, rows: Rows, predictions: list[Any] | None, took_ms: float, request_id: str
    ) -> None:
        """Count a shadow's answer and hand it on; in the loop's thread, as all counting is."""
        self._shadow_waiting -= 1
        if predictions is None:
            self._metrics.add("shadow_failed")
            self.refused(scorer)
            return
        self._metrics.add("shadow_scored")
        self._stats_of(scorer.version).answered(predictions, took_ms)
        if self.on_shadow is not None:
            self.on_shadow(scorer, rows, predictions, took_ms, f"{SHADOW_PREFIX}{request_id}")

    async def _adopt(self, routes: Routes) -> None:
        """Load what is new, swap, drop what is no longer named."""
        named = [*routes.targets, *([routes.shadow] if routes.shadow else [])]
        loop = asyncio.get_running_loop()
        ready: dict[str, Scorer] = {}
        for target in named:
            held = self._scorers.get(target.version)
            if held is not None and held.without_mlflow == (target.proven != ""):
                ready[target.version] = held
            else:
                ready[target.version] = await loop.run_in_executor(self._loader, self._load, routes.model, target)
        self._routes, self._scorers = routes, ready  # no await between: no request sees one without the other
        self._acknowledge()

    def _acknowledge(self, error: str = "") -> None:
        stats = {version: dataclasses.asdict(found) for version, found in list(self._stats.items())}
        self._state.acknowledge(self._routes.generation, error, stats)

    def _report(self) -> None:
        """Write this worker's counts by version beside the routes, for whoever judges a canary."""
        calls = sum(s.calls for s in self._stats.values())
        if calls != self._reported:
            self._reported = calls
            self._acknowledge(self._trouble)

    def _load(self, model: str, target: Target) -> Scorer:
        label = f"{model} v{target.version}"
        scorer = self._preloaded.get((target.folder, target.proven != ""))
        if scorer is None:
            scorer = Scorer(self._source.load(target, label), model, target.version, max_rows=self._max_rows)
        scorer.prepare(target.proven)
        return scorer

    async def _watch(self, stamp: int) -> None:
        for beat in itertools.count(1):
            await asyncio.sleep(WATCH_EVERY_S)
            if beat % 5 == 0:
                self._report()
            now = self._state.stamp()
            if now == stamp:
                continue
            stamp = now
            self._trouble = ""
            try:
                routes = self._state.read()
                if routes.generation != self._routes.generation:
                    await self._adopt(routes)
            except (MlgatesError, OSError, ValueError, KeyError) as error:
                log.warning("routes not adopted, the old ones stay: %s", error)
                self._trouble = str(error)
                self._acknowledge(self._trouble)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._follow_every_s)
            if not self._routes.selector or not self._lead():
                continue
            try:
                await loop.run_in_executor(self._follower, self._source.follow, self._state)
            except MlgatesError as error:  # the registry is away, or the stage is empty: go on with what is loaded
                log.warning("registry not followed: %s", error)

    async def _prove(self) -> None:
        """Once the start is over, have what was assumed at it compared with MLflow."""
        loop = asyncio.get_running_loop()
        while any(t.assumed for t in self._state.read().targets):
            await asyncio.sleep(PROVE_AFTER_S)
            if not self._lead():
                continue
            try:
                await loop.run_in_executor(self._follower, self._source.prove, self._state)
            except MlgatesError as error:
                log.warning("not compared with MLflow yet: %s", error)

    def _lead(self) -> bool:
        if self._leader is not None:
            return True
        lock = (self._state.folder / "leader.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._leader = lock
        return True


def advance(source: ModelSource, state: RoutesFile) -> bool:
    """Write the next generation where the followed stage or alias has moved; return whether it had."""
    routes = state.read()
    if not routes.selector or len(routes.targets) != 1:  # pinned, or a canary is under way: its owner decides
        return False
    found = source.target(routes.model, routes.selector)
    if found.version == routes.targets[0].version:
        return False
    log.info("%s %s moved from v%s to v%s", routes.model, routes.selector, routes.targets[0].version, found.version)
    state.write(dataclasses.replace(routes, generation=routes.generation + 1, targets=(found,)))
    return True
