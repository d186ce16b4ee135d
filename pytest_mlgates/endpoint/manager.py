"""Endpoints by name: created, updated, rolled back, canaried, paused and deleted; each a server process of its own.

The definition, the routes and the server's address lie in the endpoint's folder, so that a control plane that was restarted finds its
endpoints again and adopts the servers that still run. Every change is one generation of the routes, acknowledged by each worker; a
generation that a worker cannot load is taken back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pytest_mlgates.endpoint import canary, server
from pytest_mlgates.endpoint.definition import SINGLE_INSTANCE, Definition, checked
from pytest_mlgates.endpoint.routes import Routes, RoutesFile, Target, replace_json
from pytest_mlgates.endpoint.schema import BadRequest
from pytest_mlgates.endpoint.server import RunningEndpoint
from pytest_mlgates.endpoint.service import ModelSource
from pytest_mlgates.errors import EndpointError, MlgatesError

ACKNOWLEDGE_WAIT_S = 60.0
_POLL_S = 0.05

_REVIVE_PAUSE_S = 30.0
_PORT_WAIT_S = 2.0

Launch = Callable[[str, Path, int, int], RunningEndpoint]
"""Starts a server for (model, state folder, workers, port or 0) on the routes that lie there."""

log = logging.getLogger("pytest_mlgates.endpoint")


class ManagedEndpoint:
    """One endpoint. Methods block until they are done; one change at a time."""

    def __init__(self, folder: Path, model: str, source: ModelSource, launch: Launch, wanted: Definition | None = None) -> None:
        self._wanted = wanted
        self.folder = folder
        self.model = model
        self._source = source
        self._launch = launch
        self._state = RoutesFile(folder)
        self._lock = threading.Lock()
        self._running: RunningEndpoint | None = None
        self._revived = -math.inf
        self.status = "Provisioning"
        self.failure = ""
        self.canary: dict[str, Any] | None = None
        self.definition: Definition | None = None

    @property
    def uri(self) -> str:
        """Scoring URI; empty while nothing runs."""
        return self._running.uri if self._running is not None else ""

    def reopen(self) -> None:
        """Read what an earlier control plane left; adopt the server if it runs, else start it again."""
        found = json.loads((self.folder / "endpoint.json").read_bytes())
        self.definition = msgspec.convert(found["definition"], Definition)
        with self._lock:
            address = server.address(self.folder)
            pid = _pid(self.folder)
            before = RunningEndpoint(f"{address}/score", pid, self.folder) if address and pid else None
            if self.definition.paused:
                pass
            elif before is not None and not before.ended() and _serves(before.base):
                self._running = before
            else:
                self._start(self.definition.minInstances)
            self.status = "Succeeded"

    def apply(self, wanted: Definition) -> None:
        """Bring the endpoint to a definition: start, scale, route, pause. Raises MlgatesError; the old state stays then."""
        with self._lock:
            before = self.definition
            self.status = "Provisioning" if before is None else "Updating"
            self.failure = ""
            try:
                self._route(wanted)
                self.status = "Updating"
                if wanted.paused:
                    self._stop()
                elif self._running is None or self._running.ended():
                    self._start(wanted.minInstances)
                else:
                    self._scale(before.minInstances if before else wanted.minInstances, wanted.minInstances)
                    self._settle()
            except MlgatesError as error:
                self.status, self.failure = "Failed", str(error)
                raise
            self.definition = wanted
            self._save()
            self.status = "Succeeded"

    def revive(self) -> None:
        """Start the server again where it has ended unasked, on the port that its callers know."""
        if not self._lock.acquire(blocking=False):  # a change is under way
            return
        try:
            if self._running is None or not self._running.ended() or self.definition is None:
                return
            if time.monotonic() < self._revived + _REVIVE_PAUSE_S:
                return
            self._revived = time.monotonic()
            log.warning("endpoint %s: its server (process %d) has ended; started again", self.folder.name, self._running.pid)
            self.status = "Updating"
            self._start(self.definition.minInstances)
            self.status, self.failure = "Succeeded", ""
        except MlgatesError as error:
            self.status, self.failure = "Failed", str(error)
        finally:
            self._lock.release()

    def rollback(self) -> None:
        """Return to the routes before the last change. Raises EndpointError where there are none."""
        with self._lock:
            path = self.folder / "previous.json"
            if not path.is_file() or self.definition is None:
                raise EndpointError(f"endpoint {self.folder.name}: nothing to roll back to")
            old = Routes.from_dict(json.loads(path.read_bytes()))
            self.status = "Updating"
            self._write(dataclasses.replace(old, selector=""))
            self._settle()
            split = {t.version: t.percent for t in old.targets}
            self.definition = msgspec.structs.replace(self.definition, trafficSplit=split, modelVersion=old.targets[0].version)
            self._save()
            self.status = "Succeeded"

    def shadow(self, version: str | None) -> None:
        """Let a version score the same requests unseen; ``None`` ends it."""
        with self._lock:
            routes = self._state.read()
            target = self._target(version, 0.0) if version else None
            self._write(dataclasses.replace(routes, shadow=target))
            self._settle()

    def run_canary(
        self,
        version: str,
        limits: canary.CanaryLimits,
        *,
        steps: tuple[float, ...] = canary.STEPS,
        step_timeout_s: float = 600.0,
    ) -> canary.Decision:
        """Give ``version`` the steps' shares in turn, as long as `canary.decide` agrees; otherwise everything goes back to the champion.

        Raises
        ------
        EndpointError
            The steps do not rise to 100, nothing runs, or a worker cannot serve the version; the champion has all the traffic then.
        """
        canary.check_steps(steps)
        with self._lock:
            first = self._state.read()
            if self._running is None or len(first.targets) != 1:
                raise EndpointError("a canary needs a running endpoint that serves one version; update it to one first")
            champion = first.targets[0]
            if champion.version == version:
                raise EndpointError(f"version {version} is what is served already")
            new = self._target(version, 100.0)
            decision = canary.Decision("stop", "it was broken off")
            self.status = "Updating"
            try:
                for percent in steps:
                    decision = self._canary_step(first, champion, new, percent, limits, step_timeout_s)
                    if decision.action != "go":
                        break
            except BaseException:
                decision = canary.Decision("stop", "it was broken off")
                raise
            finally:
                self.canary = {**(self.canary or {}), "action": decision.action, "reason": decision.reason}
                if decision.action != "go":
                    self._write(dataclasses.replace(self._state.read(), targets=(champion,), selector=first.selector))
                    self._settle()
                replace_json(self.folder / "previous.json", first.to_dict())  # a rollback undoes the canary, not its last step
                self.status = "Succeeded"
            if decision.action == "go" and self.definition is not None:
                self.definition = msgspec.structs.replace(self.definition, modelVersion=version, trafficSplit={version: 100.0})
                self._save()
            return decision

    def delete(self) -> None:
        """Stop the server and forget the endpoint."""
        with self._lock:
            self._stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def describe(self) -> dict[str, Any]:
        """What a get request answers: the definition, the status, and what is really served."""
        if self.definition is None:
            asked = msgspec.to_builtins(self._wanted) if self._wanted else {"name": self.folder.name}
            return {**asked, "status": self.status, **({"failureDetails": self._details()} if self.failure else {})}
        out: dict[str, Any] = msgspec.to_builtins(self.definition)
        with contextlib.suppress(EndpointError):
            routes = self._state.read()
            out["trafficSplit"] = {t.version: t.percent for t in routes.targets}
            out["servedVersion"] = routes.targets[0].version if routes.targets else None
            out["shadowVersion"] = routes.shadow.version if routes.shadow else None
        out |= {"status": self.status, "state": "Running" if self._running else "Paused", "modelName": self.model}
        if self.uri:
            out["scoringUri"] = self.uri
        if self.failure:
            out["failureDetails"] = self._details()
        if self.definition.minInstances == 1:
            out["warnings"] = [SINGLE_INSTANCE]
        if self.canary is not None:
            out["canary"] = self.canary
        return out

    def routes(self) -> Routes:
        """What is served now."""
        return self._state.read()

    def stats(self) -> dict[int, dict[str, canary.VersionStats]]:
        """Answers by worker and version, of the workers that live."""
        return {pid: canary.merged([w.get("stats", {})]) for pid, w in self._state.workers().items()}

    def _canary_step(
        self, first: Routes, champion: Target, new: Target, percent: float, limits: canary.CanaryLimits, timeout_s: float
    ) -> canary.Decision:
        share = (dataclasses.replace(new, percent=percent), dataclasses.replace(champion, percent=100.0 - percent))
        before = self.stats()
        self._write(dataclasses.replace(first, targets=share if percent < 100 else share[:1], selector=""))
        self._settle()
        deadline = time.monotonic() + timeout_s
        while True:
            now = self.stats()
            seen = canary.since(before, now, new.version)
            reference = canary.since({}, now, champion.version)  # all of its answers, not this step's alone
            decision = canary.decide(seen, reference, limits)
            self.canary = {"version": new.version, "percent": percent, "action": decision.action, "reason": decision.reason}
            if decision.action != "wait":
                return decision
            if time.monotonic() > deadline:
                return canary.Decision("stop", f"too little traffic: {decision.reason} within {timeout_s:g} s")
            time.sleep(_POLL_S * 4)

    def _target(self, selector: str, percent: float) -> Target:
        return self._source.target(self.model, selector, percent)

    def _route(self, wanted: Definition) -> None:
        split = wanted.trafficSplit or {wanted.modelVersion: 100.0}
        if len(split) == 1:  # one version with everything: modelVersion names it, as stage or alias too
            split = {wanted.modelVersion: 100.0}
        targets = tuple(self._target(selector, percent) for selector, percent in split.items())
        try:
            old: Routes | None = self._state.read()
        except EndpointError:
            old = None
        shadow = old.shadow if old else None
        routes = Routes(0, self.model, wanted.follows, targets, shadow)
        if old is None or (old.targets, old.selector) != (routes.targets, routes.selector):
            self._write(routes)

    def _write(self, routes: Routes) -> None:
        """Write the next generation, and keep the one before it for a rollback."""
        generation = 1
        with contextlib.suppress(EndpointError):
            old = self._state.read()
            generation = old.generation + 1
            replace_json(self.folder / "previous.json", old.to_dict())
        self._state.write(dataclasses.replace(routes, generation=generation))

    def _settle(self) -> None:
        """Wait until every worker serves the newest generation. Raises EndpointError, with the old routes restored, when one cannot."""
        if self._running is None:
            return
        generation = self._state.read().generation
        deadline = time.monotonic() + ACKNOWLEDGE_WAIT_S
        while time.monotonic() < deadline:
            workers = self._state.workers()
            trouble = [w["error"] for w in workers.values() if w["error"] and w["generation"] < generation]
            if trouble:
                self._restore()
                raise EndpointError(f"the new version cannot be served, the old one stays: {trouble[0]}")
            if workers and all(w["generation"] >= generation for w in workers.values()):
                return
            time.sleep(_POLL_S)
        self._restore()
        raise EndpointError(f"not all workers took the change within {ACKNOWLEDGE_WAIT_S:g} s; the old routes are back")

    def _restore(self) -> None:
        path = self.folder / "previous.json"
        if path.is_file():
            old = Routes.from_dict(json.loads(path.read_bytes()))
            self._state.write(dataclasses.replace(old, generation=self._state.read().generation + 1))

    def _start(self, workers: int) -> None:
        shutil.rmtree(self.folder / "workers", ignore_errors=True)
        self._running = self._launch(self.model, self.folder, workers, _port_before(self.folder))

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _scale(self, before: int, after: int) -> None:
        """Tell the supervisor to start or end workers, one signal each."""
        if self._running is None:
            return
        pid = _pid(self.folder) or self._running.pid
        for _ in range(abs(after - before)):
            os.kill(pid, signal.SIGTTIN if after > before else signal.SIGTTOU)
            time.sleep(0.1)  # equal pending signals would merge into one

    def _save(self) -> None:
        replace_json(self.folder / "endpoint.json", {"model": self.model, "definition": msgspec.to_builtins(self.definition)})

    def _details(self) -> dict[str, str]:
        return {"errorCode": "DeploymentFailed", "message": self.failure}


class EndpointManager:
    """All endpoints below one folder: ``FOLDER/MODEL/NAME``."""

    def __init__(self, folder: Path, source: ModelSource, launch: Launch) -> None:
        self._folder = folder
        self._source = source
        self._launch = launch
        self._known: dict[tuple[str, str], ManagedEndpoint] = {}
        self._lock = threading.Lock()

    def reopen(self) -> None:
        """Find the endpoints that an earlier control plane left."""
        for path in self._folder.glob("*/*/endpoint.json"):
            model = str(json.loads(path.read_bytes())["model"])
            endpoint = self._made(path.parent, model)
            try:
                endpoint.reopen()
            except MlgatesError as error:
                endpoint.status, endpoint.failure = "Failed", str(error)
            self._known[model, path.parent.name] = endpoint

    def new(self, model: str, wanted: Definition) -> ManagedEndpoint:
        """Reserve the name for a new endpoint. Raises BadRequest (409) where it is taken."""
        checked(wanted)
        with self._lock:
            if (model, wanted.name) in self._known:
                raise BadRequest(f"endpoint {wanted.name!r} of {model} exists; update it, or delete it first", status=409)
            endpoint = self._made(self._folder / model.replace("/", "%2F") / wanted.name, model, wanted)
            self._known[model, wanted.name] = endpoint
            return endpoint

    def revive(self) -> None:
        """Start the servers again that have ended unasked."""
        for endpoint in list(self._known.values()):
            endpoint.revive()

    def get(self, model: str, name: str) -> ManagedEndpoint:
        """Return an endpoint. Raises BadRequest (404)."""
        try:
            return self._known[model, name]
        except KeyError:
            names = ", ".join(n for m, n in self._known if m == model) or "none"
            raise BadRequest(f"no endpoint {name!r} of model {model!r}; there are: {names}", status=404) from None

    def find(self, model: str, name: str) -> ManagedEndpoint | None:
        """Return an endpoint, or ``None``."""
        return self._known.get((model, name))

    def all(self, model: str) -> list[ManagedEndpoint]:
        """Endpoints of a model, by name."""
        return [self._known[key] for key in sorted(self._known) if key[0] == model]

    def forget(self, model: str, name: str) -> None:
        """Drop an endpoint that was deleted, or never came up."""
        self._known.pop((model, name), None)

    def stop(self) -> None:
        """Stop every server; the definitions stay."""
        for endpoint in self._known.values():
            endpoint._stop()

    def describe(self, model: str) -> list[Mapping[str, Any]]:
        """What a list request answers."""
        return [endpoint.describe() for endpoint in self.all(model)]

    def _made(self, folder: Path, model: str, wanted: Definition | None = None) -> ManagedEndpoint:
        return ManagedEndpoint(folder, model, self._source, self._launch, wanted)


def _pid(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / "server.json").read_bytes())["pid"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _port_before(folder: Path) -> int:
    """The port that this endpoint's last server had, where it is free: a scoring URI outlives a pause and a crash; else 0."""
    before = server.listening(folder)
    if before is None:
        return 0
    deadline = time.monotonic() + _PORT_WAIT_S  # workers whose supervisor was killed need a moment to see it
    while time.monotonic() < deadline:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(before)
            return before[1]
        time.sleep(_POLL_S)
    return 0


def _serves(address: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{address}/health", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False
