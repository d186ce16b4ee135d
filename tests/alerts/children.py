"""Processes that the kill tests start and kill: evaluator, receiver, retraining."""

from __future__ import annotations

import datetime as dt
import os
import signal
from pathlib import Path
from typing import Any

from pytest_mlgates.alerts import serve
from pytest_mlgates.alerts.evaluate import evaluate
from pytest_mlgates.alerts.inbox import Inbox
from pytest_mlgates.alerts.summary import announce
from pytest_mlgates.config import load_settings
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services.retrain import GateRun, Trigger, retrain
from tests.promotion.world import ALL_PASS, MODEL, World


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore:
    """The real lakehouse, whose process dies before its n-th operation."""

    def __init__(self, store: Lakehouse, at: int) -> None:
        self._store, self._left = store, at

    def __getattr__(self, name: str) -> Any:
        if self._left == 0:
            die()
        self._left -= 1
        return getattr(self._store, name)


def evaluate_and_die(folder: Path, env: dict[str, str], now: dt.datetime, at: int) -> None:
    store: Any = Lakehouse(folder / "lakehouse")
    evaluate(store if at < 0 else DyingStore(store, at), load_settings(folder / "mlgates.toml", env={}), now=now, env=env)


class DyingInbox(Inbox):
    """The real queue, whose process dies before or after its n-th call of one kind."""

    def __init__(self, path: Path, call: str, nth: int, when: str) -> None:
        super().__init__(path)
        self._call, self._left, self._when = call, nth, when

    def _around(self, call: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        mine = call == self._call
        self._left -= mine
        if mine and self._left == 0 and self._when == "before":
            die()
        out = function(*args, **kwargs)
        if mine and self._left == 0:
            die()
        return out

    def used(self, *args: Any, **kwargs: Any) -> Any:
        return self._around("used", super().used, *args, **kwargs)

    def take(self, *args: Any, **kwargs: Any) -> Any:
        return self._around("take", super().take, *args, **kwargs)

    def change(self, *args: Any, **kwargs: Any) -> Any:
        return self._around("change", super().change, *args, **kwargs)


def serve_and_die(folder: Path, port: int, env: dict[str, str], point: tuple[str, int, str] | None) -> None:
    if point is not None:
        serve.Inbox = lambda path: DyingInbox(path, *point)
    serve.serve(load_settings(folder / "mlgates.toml", env={}), host="127.0.0.1", port=port, env={**os.environ, **env})


def retrain_for_the_receiver() -> None:
    """What a receiver's command runs: a retraining without training or gates, by the receiver's variables."""
    env = os.environ
    retrain_and_die(
        Path.cwd(), env["MLGATES_ALERT_ID"], env["TEAMS"], "", env["MLGATES_ALERT_RULE"], Path(env["MLGATES_RETRAIN_RESULT"])
    )


def retrain_and_die(
    folder: Path, alert_id: str, teams: str, point: str, rule: str = "drift", result: Path | None = None
) -> None:
    os.environ["MLGATES_CRASH_AT"] = point
    world = World(folder, f"sqlite:///{folder / 'mlflow.db'}")

    def train(tags: Any) -> str:
        with (folder / "trained").open("a") as file:
            file.write("x")
        version = world.add_version(judged=False)
        for key, value in tags.items():
            world.registry.client.set_tag(version.run_id, key, value)
        return version.version

    def gates(name: str, version: str) -> GateRun:
        world.judge(world.registry.get(name, version))
        return GateRun(0, ALL_PASS)

    def tell(done: Any) -> None:
        announce(
            world.lake,
            world.settings,
            alert_id=alert_id,
            rule=rule,
            model=done.model,
            message=done.message,
            env={"TEAMS": teams},
        )

    retrain(
        world.registry,
        world.audit,
        world.settings,
        MODEL,
        trigger=Trigger("drift_alert", alert_id, rule),
        train=train,
        gates=gates,
        tell=tell,
        actor="pipeline",
        git_sha="abc",
        result=result or folder / "result.json",
    )
