"""Runs the receiver under uvicorn, in one process.

A connection that begins no request for two minutes is closed, and the process takes more descriptors than it was given: a
crowd that connects and keeps silent must not be what an alert fails on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.alerts.inbox import Inbox
from pytest_mlgates.alerts.receiver import Receiver
from pytest_mlgates.alerts.runner import Runner
from pytest_mlgates.errors import ExtraMissing, MlgatesError, UsageProblem
from pytest_mlgates.garbage import usual_collections

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mlgates.config import Settings

SECRET_VARIABLE = "MLGATES_WEBHOOK_SECRET"  # noqa: S105 the name of a variable, not its value
_SILENT_S = 120.0
_KEPT_LOOKS = 2
_KEEP_ALIVE_S = 75
_DESCRIPTORS = 65_536
_START_S = 60.0


def inbox_path(settings: Settings) -> Path:
    """Where the receiver's queue lies."""
    return settings.folder / settings.alerts.queue


def create_app(settings: Settings, *, env: Mapping[str, str] | None = None) -> Receiver:
    """Return the receiver of a project with its runner, as an ASGI application. Raises ConfigError without a signing key."""
    env = os.environ if env is None else env
    inbox = Inbox(inbox_path(settings))
    return Receiver(inbox, settings, secret=env.get(SECRET_VARIABLE, ""), runner=Runner(inbox, settings, env=env))


def serve(settings: Settings, *, host: str, port: int, env: Mapping[str, str] | None = None) -> None:
    """Serve until told to end (SIGTERM, SIGINT). With ``port=0`` a free one is taken; it is printed either way.

    Raises
    ------
    UsageProblem
        The port is taken.
    """
    try:
        import uvicorn

        protocol = _protocol()
    except ImportError:
        raise ExtraMissing.of("uvicorn and httptools", "serve", "mlgates alerts serve") from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # httpx logs whole addresses, and a Teams address is a secret
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = create_app(settings, env=env)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise UsageProblem(f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port") from None
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        http=protocol,
        ws="none",
        server_header=False,
        backlog=2048,
    )
    _take_descriptors()
    logging.getLogger("mlgates.alerts").info("receiving on http://%s:%d/alerts", host, listener.getsockname()[1])
    usual_collections()
    uvicorn.Server(config).run(sockets=[listener])


def _protocol() -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol, which waits for ever for a request to begin, with an end to its patience."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Impatient(HttpToolsProtocol):
        _seen: tuple[object, int] = (None, 0)

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(_SILENT_S, self._look)

        def _look(self) -> None:
            if self.transport.is_closing():
                return
            waiting = self.cycle is None or self.cycle.response_complete
            looks = self._seen[1] + 1 if waiting and self.cycle is self._seen[0] else 0
            # one that asked before may keep its connection for a while: closing it could meet its next request half-way
            if looks >= (1 if self.cycle is None else _KEPT_LOOKS):
                self.transport.close()
                return
            self._seen = (self.cycle, looks)
            self.loop.call_later(_SILENT_S, self._look)

    return Impatient


def _take_descriptors() -> None:
    """Raise the soft limit of open files: a thousand connections at once are more than the usual 1,024 leave room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems let nobody have what they call the limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def start(
    settings: Settings, *, port: int, log: Path, host: str = "127.0.0.1", env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``mlgates alerts serve`` in a process of its own and return it when it answers; end it with ``terminate()``.

    Parameters
    ----------
    port
        A free port.
    log
        File that its output goes to.

    Raises
    ------
    MlgatesError
        It ended, or did not answer within a minute; the message has the last line of its output.
    """
    import httpx

    command = [sys.executable, "-c", "import sys; from pytest_mlgates.cli import main; sys.exit(main())"]
    if settings.path is not None:
        command += ["--settings", str(settings.path)]
    command += ["alerts", "serve", "--host", host, "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=settings.folder, env=dict(os.environ if env is None else env), stdout=output, stderr=output
        )
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://{host}:{port}/health", timeout=2).is_success:
                return process
        except httpx.HTTPError:
            time.sleep(0.1)
    process.kill()
    process.wait()
    last = (log.read_text("utf-8", "replace").strip().splitlines() or ["no output"])[-1]
    raise MlgatesError(f"the receiver did not start on {host}:{port}: {last}")
