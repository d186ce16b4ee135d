"""The load: Locust users that drive an endpoint over a lean client and keep every raw latency.

Run by ``mlgates loadtest`` in a process of its own (Locust patches the standard library); the plan comes as JSON in the file that
``MLGATES_LOAD_PLAN`` names, the samples go to the file that the plan names.

Closed loop: each user sends its next request when the last is answered, until ``n`` are counted. Open loop: one scheduler hands out
requests at their due times, whatever the server does, and latency counts from the due time: a stall is seen by every request
that fell into it.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import time
from array import array
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust import User, constant, events, task

from pytest_mlgates.endpoint.answers import kind_of_error
from pytest_mlgates.endpoint.lean import ConnectionLost, LeanConnection

PLAN: dict[str, Any] = json.loads(Path(os.environ["MLGATES_LOAD_PLAN"]).read_text("utf-8"))
TOKEN = os.environ.get("MLGATES_ENDPOINT_TOKEN", "")
OPEN = PLAN["rate_per_s"] is not None
CLOCK = time.perf_counter


class Recorder:
    """Every counted call, and the generator's own CPU while they were made."""

    def __init__(self) -> None:
        self.start, self.latency, self.service, self.lag = (array("d") for _ in range(4))
        self.kinds: list[str] = []
        self.began: tuple[float, float] | None = None
        self.ended: tuple[float, float] | None = None

    def begin(self) -> None:
        """Warm-up is over."""
        if self.began is None:
            self.began = (CLOCK(), _cpu())

    def end(self) -> None:
        """The last counted call is answered."""
        if self.ended is None:
            self.ended = (CLOCK(), _cpu())

    def add(self, intended: float, sent: float, done: float, lag: float, kind: str) -> None:
        """Keep one call, and tell Locust's own statistics."""
        self.start.append(intended)
        self.latency.append(done - intended)
        self.service.append(done - sent)
        self.lag.append(lag)
        self.kinds.append(kind)

    def write(self, path: str) -> None:
        """Write what was kept."""
        self.end()
        began, ended = self.began or (0.0, 0.0), self.ended or (0.0, 0.0)
        out = {
            "start": self.start.tolist(), "latency": self.latency.tolist(), "service": self.service.tolist(),
            "lag": self.lag.tolist(), "kinds": self.kinds, "wall_s": ended[0] - began[0], "cpu_s": ended[1] - began[1],
        }  # fmt: skip
        scratch = Path(path + ".part")
        scratch.write_text(json.dumps(out), "utf-8")
        scratch.replace(path)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


RECORDER = Recorder()
BODIES = [body.encode() for body in PLAN["bodies"]]
TICKETS = itertools.count()
IDS = itertools.count()
ALL_WARM = Event()
WARM = itertools.count(1)
HEADERS = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}


class Caller:
    """One connection with its prepared bodies."""

    def __init__(self) -> None:
        self._connection = LeanConnection(PLAN["uri"], HEADERS, timeout_s=PLAN["timeout_s"])
        self._bodies = [(self._connection.prepared(body), body) for body in BODIES]
        self._rows, self._versions = PLAN["rows_per_request"], frozenset(PLAN["versions"])
        self._retry = bool(PLAN["retry_reset"])

    def call(self, number: int) -> tuple[float, float, str]:
        """Send request ``number``; return when it was sent, when it was answered, and the kind of error."""
        prepared, body = self._bodies[number % len(self._bodies)]
        request_id = b"load-%d-%d" % (os.getpid(), next(IDS))
        sent = CLOCK()
        for again in (self._retry, False):
            try:
                status, answer = self._connection.post(prepared, request_id, body)
            except TimeoutError:
                return sent, CLOCK(), "timeout"
            except ConnectionLost:
                if again:
                    continue
                return sent, CLOCK(), "connection"
            done = CLOCK()
            return sent, done, kind_of_error(status, answer, rows=self._rows, versions=self._versions)
        raise AssertionError("unreachable")


def _report(environment: Any, done: float, sent: float, kind: str) -> None:
    environment.events.request.fire(
        request_type="POST", name="score", response_time=(done - sent) * 1e3, response_length=0,
        exception=RuntimeError(kind) if kind else None, context={},
    )  # fmt: skip


if OPEN:

    class Schedule(User):
        """One scheduler with due times; a greenlet and a connection per request that is under way."""

        fixed_count = 1
        wait_time = constant(0)

        @task
        def drive(self) -> None:
            """Warm up, hand out every request at its due time, wait for the last, end."""
            idle: list[Caller] = []
            workers = [gevent.spawn(self._warm, idle) for _ in range(PLAN["warm_connections"])]
            gevent.joinall(workers)
            RECORDER.begin()
            period, count = 1.0 / PLAN["rate_per_s"], PLAN["n"]
            first = CLOCK() + 0.05
            under_way = set()
            for number in range(count):
                due = first + number * period
                wait = due - CLOCK()
                if wait > 0:
                    gevent.sleep(wait)
                greenlet = gevent.spawn(self._one, idle, number, due, first)
                under_way.add(greenlet)
                greenlet.link(under_way.discard)
            gevent.joinall(list(under_way), timeout=PLAN["timeout_s"] + 5)
            RECORDER.end()
            gevent.spawn(self.environment.runner.quit)
            gevent.sleep(3600)

        def _warm(self, idle: list[Caller]) -> None:
            caller = Caller()
            for number in range(PLAN["warmup_each"]):
                caller.call(number)
            idle.append(caller)

        def _one(self, idle: list[Caller], number: int, due: float, first: float) -> None:
            caller = idle.pop() if idle else Caller()
            sent, done, kind = caller.call(number)
            idle.append(caller)
            RECORDER.add(due - first, sent - first, done - first, sent - due, kind)
            _report(self.environment, done, sent, kind)

else:

    class Loop(User):
        """Sends its next request when the last is answered."""

        wait_time = constant(0)

        def on_start(self) -> None:
            """Warm up, then wait until every user is warm."""
            self.caller = Caller()
            for number in range(PLAN["warmup_each"]):
                self.caller.call(number)
            if next(WARM) >= PLAN["concurrency"]:
                RECORDER.begin()
                ALL_WARM.set()
            ALL_WARM.wait()

        @task
        def drive(self) -> None:
            """Send until the counted number is reached; whoever finds it reached ends the run."""
            while (number := next(TICKETS)) < PLAN["n"]:
                sent, done, kind = self.caller.call(number)
                RECORDER.add(sent, sent, done, 0.0, kind)
                _report(self.environment, done, sent, kind)
                if len(RECORDER.kinds) == PLAN["n"]:
                    RECORDER.end()
                    gevent.spawn(self.environment.runner.quit)
            gevent.sleep(3600)


@events.quitting.add_listener
def _write(**_: Any) -> None:
    RECORDER.write(PLAN["samples"])
