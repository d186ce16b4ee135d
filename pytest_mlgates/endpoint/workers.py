"""The pre-forking server: gunicorn's supervisor over our ASGI application.

Chosen by measurement: with the application loaded before the fork a killed worker is replaced within 0.1 s (uvicorn needed 8 to 43 s,
Granian 7 s) and the model's memory is shared. Its worker is given connections of our own (`protocol`), limits on how long a request may
take to arrive, so that idle half-requests cannot pile up, and a prompt stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.asgi.lifespan import LifespanManager
from gunicorn.workers.gasgi import ASGIWorker

from pytest_mlgates.endpoint.metrics import MAX_WORKERS, Metrics
from pytest_mlgates.endpoint.protocol import Connection
from pytest_mlgates.endpoint.routes import RoutesFile, replace_json
from pytest_mlgates.garbage import rare_collections, usual_collections

REQUEST_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 4000
_MAX_FILES = 65_536
_OWN_FILES = 200  # of a worker, besides its connections
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_LARGE = 262_144


@dataclasses.dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the server runs; ``state`` is the endpoint's folder, ``port`` 0 takes a free one."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 2
    request_timeout_s: float = REQUEST_TIMEOUT_S
    log_level: str = "warning"


class Worker(ASGIWorker):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's ASGI worker with arrival limits; it listens only once the model is loaded, and stops without waiting for idle peers."""

    request_timeout_s = REQUEST_TIMEOUT_S
    max_connections = MAX_CONNECTIONS

    def init_process(self) -> None:
        """Set up the event loop and our own tables."""
        self.connections: dict[Connection, None] = {}
        super().init_process()

    async def _serve(self) -> None:
        self.lifespan = LifespanManager(self.asgi, self.log, self.state)
        heartbeat = asyncio.create_task(self._heartbeat())  # a model may take longer to load than a heartbeat may be silent
        try:
            await self.lifespan.startup()
        except Exception as error:  # noqa: BLE001 whatever it is, this worker cannot serve
            self.log.critical("worker cannot serve: %s", error)
            heartbeat.cancel()
            return
        self.servers = [
            await self.loop.create_server(lambda: Connection(self), sock=s.sock, backlog=2048, start_serving=True)
            for s in self.sockets
        ]
        await heartbeat
        await self._stop()

    async def _heartbeat(self) -> None:
        beat = 0
        while self.alive and self.ppid == os.getppid():
            if beat % 10 == 0:
                self.notify()
                self._close_overdue()
            beat += 1
            await asyncio.sleep(0.1)

    def _close_overdue(self) -> None:
        """Close the connections that have waited too long: for the rest of a request, for a next one, for answers to be read."""
        now = self.loop.time()
        for connection in [c for c in self.connections if c.deadline < now]:
            connection.give_up()

    async def _stop(self) -> None:
        for server in self.servers:
            server.close()
        deadline = self.loop.time() + self.cfg.graceful_timeout
        while self.connections and self.loop.time() < deadline:
            for connection in [c for c in self.connections if c.idle]:
                connection.give_up()
            await asyncio.sleep(0.02)
        with contextlib.suppress(Exception):
            await self.lifespan.shutdown()


class _Application(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    def __init__(self, options: ServerOptions, metrics: Metrics, make_app: Callable[[], Any]) -> None:
        self._options = options
        self._metrics = metrics
        self._make_app = make_app
        self._state = RoutesFile(options.state)
        super().__init__()

    def load_config(self) -> None:
        options = self._options
        chosen = {
            "bind": f"{options.host}:{options.port}",
            "workers": options.workers,
            "worker_class": Worker,
            "preload_app": True,
            "timeout": 60,
            "graceful_timeout": 10,
            "loglevel": options.log_level,
            "proc_name": "mlgates-endpoint",
            "control_socket_disable": True,
            "pre_fork": self._pre_fork,
            "post_fork": self._post_fork,
            "when_ready": self._when_ready,
            "child_exit": self._child_exit,
        }
        for key, value in chosen.items():
            if key in self.cfg.settings:
                self.cfg.set(key, value)
        Worker.request_timeout_s = options.request_timeout_s
        Worker.max_connections = max(min(MAX_CONNECTIONS, _open_files() - _OWN_FILES), 1)

    def load(self) -> Any:
        with rare_collections():
            app = self._make_app()
        usual_collections()  # the workers inherit it
        gc.collect()
        gc.freeze()  # what is here stays out of the workers' collections, whose marks would unshare its pages
        _give_back_memory()
        return app

    def _pre_fork(self, server: Any, worker: Any) -> None:
        """A row of the counters that no living worker writes: two that add to one would lose counts."""
        taken = {other.metrics_row for other in server.WORKERS.values()}
        worker.metrics_row = next((row for row in range(MAX_WORKERS) if row not in taken), 0)

    def _post_fork(self, server: Any, worker: Any) -> None:
        del server
        self._metrics.take_row(worker.metrics_row)

    def _when_ready(self, server: Any) -> None:
        host, port = server.LISTENERS[0].sock.getsockname()[:2]
        replace_json(self._options.state / "server.json", {"pid": os.getpid(), "host": host, "port": port})

    def _child_exit(self, server: Any, worker: Any) -> None:
        del server
        self._state.forget(worker.pid)


def _open_files() -> int:
    """Files and connections that a process may have open, after asking for as many as it may ask for: 1,024 are soon used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _give_back_memory() -> None:
    """Give what loading a model needed for a moment back to the system, and let threads share two heaps (glibc only).

    Large blocks, a request's body among them, go back when they are freed; left alone, glibc keeps more the larger they were.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)
        libc.malloc_trim(0)


def run(options: ServerOptions, metrics: Metrics, make_app: Callable[[], Any]) -> None:
    """Serve until SIGTERM or SIGINT; ``make_app`` is called once, before the fork."""
    _Application(options, metrics, make_app).run()
