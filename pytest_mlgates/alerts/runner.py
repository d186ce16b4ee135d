"""Starts what the queue asks for: one retraining at a time per model, whoever else runs or has died.

The command holds a lock on a file of its model (an inherited descriptor: the kernel lets it go when the last process that has
it ends, however it ends). A shell that runs it writes down its exit code. So a receiver that was killed and comes back finds the
lock taken, and waits for the command that it left behind; or the lock free and what came of it; or the lock free and nothing,
because the command was killed too, and starts it again: commands take up where the same alert id left off. What came of a
command is what it wrote to ``MLGATES_RETRAIN_RESULT``; without that, its exit code.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlgates.alerts.inbox import Inbox, Job
from pytest_mlgates.errors import ConfigError, MlgatesError

if TYPE_CHECKING:
    from pytest_mlgates.config import Retrain, Settings

log = logging.getLogger("mlgates.alerts")
_POLL_S = 0.2
_GRACE_S = 10.0
# runs its arguments, and leaves their exit code in the file that it is named after; whole or not at all
_KEEP_EXIT_CODE = '"$@"; code=$?; echo "$code" >"$0.part" && mv "$0.part" "$0"; exit "$code"'
_BY_SIGNAL = 128
# what a retraining must not have: who holds the key could sign alerts
_WITHHELD = frozenset({"MLGATES_WEBHOOK_SECRET"})


class Runner:
    """Works off the queue of one project, on a thread of its own."""

    def __init__(
        self, inbox: Inbox, settings: Settings, *, env: Mapping[str, str] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._inbox = inbox
        self._settings = settings
        self._env = dict(os.environ if env is None else env)
        self._clock = clock
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlgates-runner", daemon=True)
        self._workers: dict[str, threading.Thread] = {}
        self.folder = inbox.path.with_name(inbox.path.name + ".runs")

    def start(self) -> None:
        """Begin to work."""
        self.folder.mkdir(exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """Start nothing more; what runs goes on, and is found by the next receiver."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except Exception:
                log.exception("the queue could not be worked off; trying again")
            self._wake.wait(timeout=1.0)
            self._wake.clear()

    def step(self) -> None:
        """Start the oldest job of every model that nothing runs for, and take up what a dead receiver left."""
        busy: set[str] = {m for m, t in self._workers.items() if t.is_alive()}
        for job in self._inbox.jobs("running", "queued"):
            if job.model in busy:
                continue
            busy.add(job.model)
            thread = threading.Thread(target=self._work, args=(job,), daemon=True)
            self._workers[job.model] = thread
            thread.start()

    def _work(self, job: Job) -> None:
        try:
            with _model_lock(self.folder, job.model) as lock:
                if lock is None:
                    self._watch_deadline(job)
                    return
                fresh = self._inbox.get(job.key)
                if fresh is None or fresh.state not in ("running", "queued"):
                    return
                if fresh.state == "running" and self._settle_orphan(fresh):
                    return
                self._run(fresh, lock)
        except Exception:
            log.exception("job %s could not be worked on; trying again", job.key)
            self._stop.wait(1.0)  # a fault that stays must not become a loop that spins
        finally:
            self._wake.set()

    def _settle_orphan(self, job: Job) -> bool:
        """Settle a job whose command ended unseen; ``False`` when it has to be started again."""
        outcome = self._outcome(job, self._exit_code(job))
        if outcome is not None:
            self._finish(job, *outcome)
            return True
        if job.attempts >= self._retrain(job).attempts:
            self._finish(job, "failed", f"ended without a result {job.attempts} times")
            return True
        return False

    def _run(self, job: Job, lock: int) -> None:
        retrain = self._retrain(job)
        self._exit_path(job).unlink(missing_ok=True)  # an earlier start's
        if not self._inbox.change(
            job.key, when=job.state, now=self._clock(), state="running", started=self._clock(), attempts=job.attempts + 1
        ):
            return
        try:
            if retrain.target == "fabric":
                self._finish(job, *self._run_fabric(job, retrain))
                return
            code = self._run_command(job, retrain, lock)
        except MlgatesError as error:
            self._finish(job, "failed", str(error))
            return
        outcome = self._outcome(job, code)
        if outcome is not None:
            self._finish(job, *outcome)
        elif code is None:
            self._finish(job, "failed", f"stopped after {retrain.timeout_s:g} s")
        elif job.attempts + 1 >= retrain.attempts:
            self._finish(job, "failed", f"the command {_ended(code)}, {job.attempts + 1} times; see {self._log_path(job).name}")
        else:
            note = f"the command {_ended(code)}; starting it again"
            self._inbox.change(job.key, when="running", now=self._clock(), state="queued", note=note, pid=None)

    def _run_command(self, job: Job, retrain: Retrain, lock: int) -> int | None:
        """Run the command to its end; return its exit code, ``None`` where it was stopped for its time."""
        if not retrain.command:
            raise ConfigError(
                f'[models."{job.model}".retrain] has no command; add command = ["python", "pipelines/retrain.py"]'
            )
        env = self._environment(job)
        command = [*self._program(retrain.command[0], env), *retrain.command[1:]]
        with self._log_path(job).open("ab") as output:
            try:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", _KEEP_EXIT_CODE, str(self._exit_path(job)), *command],
                    cwd=self._settings.folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,  # a signal to the receiver's terminal is not for the retraining
                )
            except OSError as error:
                raise ConfigError(
                    f"cannot start {command[0]}: {error.strerror}; check the retrain command of {job.model}"
                ) from None
        started = process_start(process.pid)
        self._inbox.change(job.key, when="running", now=self._clock(), pid=process.pid, pid_started=started)
        try:
            return process.wait(timeout=retrain.timeout_s)
        except subprocess.TimeoutExpired:
            _end_session(process.pid)
            process.wait()
            return None

    def _program(self, name: str, env: Mapping[str, str]) -> list[str]:
        """The program that a command names; ``python`` is ours. Raises ConfigError where there is none."""
        if name in ("python", "python3"):
            return [sys.executable]
        found = shutil.which(name if "/" not in name else self._settings.folder / name, path=env.get("PATH"))
        if found is None:
            raise ConfigError(f"cannot start {name}: no such program; check the retrain command of {env['MODEL_NAME']}")
        return [str(found)]

    def _run_fabric(self, job: Job, retrain: Retrain) -> tuple[str, str]:
        from pytest_mlgates.alerts.fabric import FabricRefused, follow, submit  # httpx: a third of the receiver's start

        fabric = retrain.fabric
        if fabric is None:
            raise ConfigError(f'[models."{job.model}".retrain] target = "fabric" needs a fabric table')
        token = self._env.get(fabric.token_env, "")
        if not token:
            raise ConfigError(f"the variable {fabric.token_env} with the Fabric token is not set")
        try:
            location = job.location
            if not location:
                location = submit(fabric, token, reason=job.reason, alert_id=job.alert_id)
                self._inbox.change(job.key, when="running", now=self._clock(), location=location)
            state, note = follow(fabric, token, location, deadline=self._clock() + retrain.timeout_s, clock=self._clock)
            return state, note
        except FabricRefused as error:
            return "failed", str(error)

    def _watch_deadline(self, job: Job) -> None:
        """Another process has the lock: a command that a dead receiver left behind, perhaps past its time."""
        time.sleep(_POLL_S)
        if job.state != "running" or job.pid is None or job.started is None:
            return
        over = self._clock() > job.started + self._retrain(job).timeout_s + _GRACE_S
        if over and process_start(job.pid) == job.pid_started:
            _end_session(job.pid)

    def _retrain(self, job: Job) -> Retrain:
        return self._settings.model(job.model).retrain

    def _environment(self, job: Job) -> dict[str, str]:
        env = {k: v for k, v in self._env.items() if k not in _WITHHELD}
        env |= {"MLGATES_TRIGGER_REASON": job.reason, "MLGATES_ALERT_ID": job.alert_id, "MODEL_NAME": job.model}
        env |= {"MLGATES_RETRAIN_RESULT": str(self._result_path(job)), "MLGATES_ALERT_RULE": job.rule}
        if self._settings.path is not None:
            env["MLGATES_SETTINGS"] = str(self._settings.path)
        return env

    def _result_path(self, job: Job) -> Path:
        return self.folder / f"{job.key}.result.json"

    def _exit_path(self, job: Job) -> Path:
        return self.folder / f"{job.key}.exit"

    def _log_path(self, job: Job) -> Path:
        return self.folder / f"{job.key}.log"

    def _outcome(self, job: Job, code: int | None) -> tuple[str, str] | None:
        """What came of a command; ``None`` where that is not known, or it did not end well and said nothing.

        It may have written ``{"outcome": "succeeded" | "blocked" | "failed", "message": …}``; else its exit code counts.
        """
        try:
            found: Any = json.loads(self._result_path(job).read_text("utf-8"))
            state = "succeeded" if found["outcome"] == "succeeded" else "failed"
            return state, str(found.get("message", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ("succeeded", "") if code == 0 else None

    def _exit_code(self, job: Job) -> int | None:
        """The exit code that a command left which nobody waited for."""
        try:
            return int(self._exit_path(job).read_text("ascii"))
        except (OSError, ValueError):
            return None

    def _finish(self, job: Job, state: str, note: str) -> None:
        self._inbox.change(job.key, when="running", now=self._clock(), state=state, note=note[:2000], pid=None)
        log.info("retraining for %s: %s %s", job.alert_id, state, (note.splitlines() or [""])[0])


@contextlib.contextmanager
def _model_lock(folder: Path, model: str) -> Iterator[int | None]:
    """Take the lock of a model; ``None`` where a live process has it."""
    name = hashlib.sha256(model.encode()).hexdigest()[:16]
    descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def _ended(code: int) -> str:
    """How a command ended, in words; a shell tells of a signal as 128 and its number."""
    number = -code if code < 0 else code - _BY_SIGNAL
    return f"was ended by signal {number}" if 0 < number < _BY_SIGNAL / 2 else f"ended with {code}"


def process_start(pid: int) -> str | None:
    """Return when a process began (its 22nd field in ``/proc/PID/stat``), ``None`` where it is gone: pids are used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _end_session(pid: int) -> None:
    """Ask a command and its children to end, then make them."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, kind)
        except ProcessLookupError:
            return
        until = time.monotonic() + _GRACE_S
        while kind is signal.SIGTERM and time.monotonic() < until and _alive(pid):
            time.sleep(_POLL_S)


def _alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
