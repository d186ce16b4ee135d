"""The load: a Locust user per generator process, which drives an endpoint over lean clients and keeps every raw latency.

Run by ``mlgates loadtest`` in processes of their own (Locust patches the standard library). One machine: the plan comes as JSON in the file
that ``MLGATES_LOAD_PLAN`` names, the samples go to the file that the plan names. A master with workers elsewhere: the master's file holds
one plan per worker, plans and samples travel as Locust's own messages.

Closed loop: each connection sends its next request when the last is answered, until ``n`` are counted. Open loop: one scheduler hands
out requests at their due times, whatever the server does, and latency counts from the due time: a stall is seen by every request
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
from locust.runners import MasterRunner, WorkerRunner

from pytest_mlgates.endpoint.answers import kind_of_error
from pytest_mlgates.endpoint.lean import ConnectionLost, LeanConnection

FILE = os.environ.get("MLGATES_LOAD_PLAN")
GIVEN: dict[str, Any] = json.loads(Path(FILE).read_text("utf-8")) if FILE else {}
PLAN: dict[str, Any] = {}
PLANNED = Event()
TOKEN = os.environ.get("MLGATES_ENDPOINT_TOKEN", "")
CLOCK = time.perf_counter
EPOCH = time.time() - CLOCK()


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
        self.start.append(intended + EPOCH)
        self.latency.append(done - intended)
        self.service.append(done - sent)
        self.lag.append(lag)
        self.kinds.append(kind)

    def kept(self) -> dict[str, Any]:
        """Everything, as JSON and Locust's messages carry it."""
        self.end()
        began, ended = self.began or (0.0, 0.0), self.ended or (0.0, 0.0)
        return {
            "start": self.start.tolist(), "latency": self.latency.tolist(), "service": self.service.tolist(),
            "lag": self.lag.tolist(), "kinds": self.kinds, "wall_s": ended[0] - began[0], "cpu_s": ended[1] - began[1],
        }  # fmt: skip


def _write(found: dict[str, Any]) -> None:
    path = GIVEN["samples"]
    scratch = Path(path + ".part")
    scratch.write_text(json.dumps(found), "utf-8")
    scratch.replace(path)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


RECORDER = Recorder()
IDS = itertools.count()
RUN = os.urandom(4).hex().encode()  # tells apart the ids of processes on several machines
HEADERS = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}


class Caller:
    """One connection with its prepared bodies."""

    def __init__(self) -> None:
        self._connection = LeanConnection(PLAN["uri"], HEADERS, timeout_s=PLAN["timeout_s"])
        bodies = [body.encode() for body in PLAN["bodies"]]
        self._bodies = [(self._connection.prepared(body), body) for body in bodies]
        self._rows, self._versions = PLAN["rows_per_request"], frozenset(PLAN["versions"])
        self._retry = bool(PLAN["retry_reset"])

    def call(self, number: int) -> tuple[float, float, str]:
        """Send request ``number``; return when it was sent, when it was answered, and the kind of error."""
        prepared, body = self._bodies[number % len(self._bodies)]
        request_id = b"load-%s-%d" % (RUN, next(IDS))
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


class Driver(User):
    """All the load of one process: Locust starts one, which starts a greenlet per connection."""

    wait_time = constant(0)

    @task
    def drive(self) -> None:
        """Warm up, make the plan's calls, hand in what was kept."""
        PLANNED.wait()
        callers = [Caller() for _ in range(PLAN["concurrency"])]
        gevent.joinall([gevent.spawn(_warm, caller) for caller in callers], raise_error=True)
        RECORDER.begin()
        if PLAN["rate_per_s"] is None:
            tickets = itertools.count()
            gevent.joinall([gevent.spawn(self._in_turn, caller, tickets) for caller in callers], raise_error=True)
        else:
            self._at_due_times(callers)
        RECORDER.end()
        runner = self.environment.runner
        if isinstance(runner, WorkerRunner):
            runner.send_message("mlgates-samples", RECORDER.kept())
        else:
            _write(RECORDER.kept())
            gevent.spawn(runner.quit)
        gevent.sleep(3600)

    def _in_turn(self, caller: Caller, tickets: itertools.count[int]) -> None:
        while (number := next(tickets)) < PLAN["n"]:
            sent, done, kind = caller.call(number)
            RECORDER.add(sent, sent, done, 0.0, kind)
            _report(self.environment, done, sent, kind)

    def _at_due_times(self, idle: list[Caller]) -> None:
        period = 1.0 / PLAN["rate_per_s"]
        first = CLOCK() + 0.05
        under_way = set()
        for number in range(PLAN["n"]):
            due = first + number * period
            wait = due - CLOCK()
            if wait > 0:
                gevent.sleep(wait)
            greenlet = gevent.spawn(self._one, idle, number, due)
            under_way.add(greenlet)
            greenlet.link(under_way.discard)
        gevent.joinall(list(under_way), timeout=2 * PLAN["timeout_s"] + 5)  # a call that is made twice may take twice as long

    def _one(self, idle: list[Caller], number: int, due: float) -> None:
        caller = idle.pop() if idle else Caller()
        sent, done, kind = caller.call(number)
        idle.append(caller)
        RECORDER.add(due, sent, done, sent - due, kind)
        _report(self.environment, done, sent, kind)


def _warm(caller: Caller) -> None:
    for number in range(PLAN["warmup_each"]):
        caller.call(number)


def _take(plan: dict[str, Any]) -> None:
    PLAN.update(plan)
    PLANNED.set()


@events.init.add_listener
def _prepare(environment: Any, **_: Any) -> None:
    """Have the plan, or know how it will come."""
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message("mlgates-plan", lambda msg, **_: _take(msg.data))
    elif isinstance(runner, MasterRunner):
        parts: list[dict[str, Any]] = []

        def collect(msg: Any, **_: Any) -> None:
            parts.append(msg.data)
            if len(parts) == len(GIVEN["plans"]):
                _write({"parts": parts})
                gevent.spawn(runner.quit)

        runner.register_message("mlgates-samples", collect)
    else:
        _take(GIVEN)


@events.test_start.add_listener
def _hand_out(environment: Any, **_: Any) -> None:
    """The master gives every worker its share."""
    if isinstance(environment.runner, MasterRunner):
        for worker, plan in zip(list(environment.runner.clients), GIVEN["plans"], strict=False):
            environment.runner.send_message("mlgates-plan", plan, worker)
