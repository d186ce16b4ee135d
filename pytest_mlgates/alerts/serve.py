"""Runs the receiver under uvicorn, in one process."""

from __future__ import annotations

import logging
import os
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

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mlgates.config import Settings

SECRET_VARIABLE = "MLGATES_WEBHOOK_SECRET"  # noqa: S105 the name of a variable, not its value
_KEEP_ALIVE_S = 75
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
    except ImportError:
        raise ExtraMissing.of("uvicorn", "serve", "mlgates alerts serve") from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # httpx logs whole addresses, and a Teams address is a secret
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = create_app(settings, env=env)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise UsageProblem(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from None
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        server_header=False,
        backlog=2048,
    )
    logging.getLogger("mlgates.alerts").info("receiving on http://%s:%d/alerts", host, listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


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
