"""Start and stop an endpoint server as a process of its own, for the quickstart, the control plane and the tests."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx

from pytest_mlgates.addresses import TOKEN_VARIABLE
from pytest_mlgates.errors import EndpointError

_POLL_S = 0.05
_STOP_WAIT_S = 15.0


@dataclasses.dataclass(slots=True)
class RunningEndpoint:
    """A server that answers: its scoring URI, the supervisor's process id and its state folder.

    As a context manager it stops the server on leaving.
    """

    uri: str
    pid: int
    state: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        """Address without ``/score``."""
        return self.uri.removesuffix("/score")

    def stop(self) -> None:
        """End the server by its process id: gracefully, then by force."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_WAIT_S
        while time.monotonic() < deadline:
            if self.ended():
                return
            time.sleep(_POLL_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.ended()

    def ended(self) -> bool:
        """Whether the server's supervisor is gone."""
        if self.process is not None:
            return self.process.poll() is not None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def __enter__(self) -> RunningEndpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start(
    settings: Path | str | None,
    *,
    model: str,
    stage: str = "Production",
    host: str = "127.0.0.1",
    port: int = 0,
    workers: int = 2,
    state: Path | None = None,
    token: str = "",
    insecure_local: bool = True,
    follow_every_s: float = 5.0,
    log_predictions: bool = True,
    routes: bool = False,
    wait_s: float = 120.0,
    extra: Sequence[str] = (),
) -> RunningEndpoint:
    """Start ``mlgates endpoint serve`` and wait until ``/health`` is 200.

    Parameters
    ----------
    settings
        The project's ``mlgates.toml``; ``None``: found from the current directory.
    model, stage
        Registered name and what of it is served: a stage, an ``@alias`` or a version.
    port
        0 takes a free one.
    state
        Folder for the server's state and log; a fresh temporary one by default.
    token
        Bearer token the server asks for; handed over by environment, never on the command line.
    insecure_local
        Whether a server on loopback may do without a token.
    routes
        Serve what ``state/routes.json`` says, instead of resolving the stage first.

    Raises
    ------
    EndpointError
        The server ended, or was not ready within ``wait_s``; the message holds the last lines of its log.
    """
    state = state or Path(tempfile.mkdtemp(prefix="mlgates-endpoint-"))
    command = ["serve", "--model", model, "--stage", stage, "--host", host, "--port", str(port)]
    command += ["--workers", str(workers), "--state", str(state), "--follow-every", str(follow_every_s)]
    command += ["--insecure-local"] if insecure_local and not token else []
    command += [] if log_predictions else ["--no-prediction-log"]
    command += ["--from-routes"] if routes else []
    return _spawn(settings, [*command, *extra], state, token, wait_s, "/score")


def start_control(
    settings: Path | str | None, *, state: Path, host: str = "127.0.0.1", port: int = 0, token: str = "", wait_s: float = 120.0
) -> RunningEndpoint:
    """Start ``mlgates endpoint control`` and wait until it answers; ``uri`` is its address. Arguments and errors as in `start`."""
    command = ["control", "--host", host, "--port", str(port), "--state", str(state)]
    command += [] if token else ["--insecure-local"]
    return _spawn(settings, command, state / ".control", token, wait_s, "")


def _spawn(
    settings: Path | str | None, command: Sequence[str], state: Path, token: str, wait_s: float, page: str
) -> RunningEndpoint:
    state.mkdir(parents=True, exist_ok=True)
    (state / "server.json").unlink(missing_ok=True)
    words = [sys.executable, "-c", "import sys; from pytest_mlgates.cli import main; sys.exit(main())"]
    words += ["--settings", str(settings)] if settings else []
    environment = {key: value for key, value in os.environ.items() if key != TOKEN_VARIABLE}
    if token:
        environment[TOKEN_VARIABLE] = token
    with (state / "server.log").open("ab") as output:
        process = subprocess.Popen(
            [*words, "endpoint", *command],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
        )  # fmt: skip
    running = RunningEndpoint("", process.pid, state, process)
    try:
        running.uri = _wait_ready(process, state, wait_s) + page
    except BaseException:
        running.stop()
        raise
    return running


def _wait_ready(process: subprocess.Popen[bytes], state: Path, wait_s: float) -> str:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EndpointError(f"the endpoint ended with code {process.returncode} before it was ready: {last_words(state)}")
        base = address(state)
        if base is not None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{base}/health", timeout=2.0).status_code == 200:
                    return base
        time.sleep(_POLL_S)
    raise EndpointError(f"the endpoint was not ready within {wait_s:g} s: {last_words(state)}")


def address(state: Path) -> str | None:
    """Address of the server whose state this is, ``None`` before it listens."""
    found = listening(state)
    if found is None:
        return None
    host = "127.0.0.1" if found[0] in ("0.0.0.0", "::") else found[0]  # noqa: S104 read, not bound
    return f"http://{host}:{found[1]}"


def listening(state: Path) -> tuple[str, int] | None:
    """Host and port that the server of this state listens on, or listened on last; ``None`` before the first time."""
    try:
        found = json.loads((state / "server.json").read_bytes())
        return str(found["host"]), int(found["port"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def last_words(state: Path, lines: int = 3) -> str:
    """Last lines of the server's log, in one line."""
    try:
        text = (state / "server.log").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return "it left no log"
    return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip()) or "its log is empty"
