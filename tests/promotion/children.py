"""What test processes do: started by a fork server that has imported everything and touched nothing."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from .world import MODEL, World


def fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.promotion.children"])
    return context


def run(context: ForkServerContext, target: Any, *arguments: Any, timeout: float = 120) -> int | None:
    """Run one child to its end and return its exit code (-9: killed by SIGKILL)."""
    child = context.Process(target=target, args=arguments)
    child.start()
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
        return None
    return child.exitcode


def promote_and_die(folder: Path, point: str, version: str, to: str) -> None:
    os.environ["MLGATES_CRASH_AT"] = point
    World(folder, f"sqlite:///{folder / 'mlflow.db'}").hotfix(version, to)


def reconcile_and_die(folder: Path, point: str) -> None:
    os.environ["MLGATES_CRASH_AT"] = point
    World(folder, f"sqlite:///{folder / 'mlflow.db'}").reconcile()


def promote_at_once(folder: Path, uri: str, version: str, barrier: Barrier, name: str = MODEL) -> None:
    world = World(folder, uri)
    world.registry.versions(name)  # connections are open and caches warm before the start
    barrier.wait(120)
    try:
        world.hotfix(version, name=name)
    except Exception:  # noqa: BLE001 the parent asserts on the exit code, and shows this
        traceback.print_exc()
        sys.exit(3)


def start_together(
    context: ForkServerContext, folder: Path, uri: str, versions: list[str], name: str = MODEL
) -> tuple[list[BaseProcess], Barrier]:
    barrier = context.Barrier(len(versions))
    children = [context.Process(target=promote_at_once, args=(folder, uri, v, barrier, name)) for v in versions]
    for child in children:
        child.start()
    return children, barrier  # a barrier that nobody holds is unlinked before its processes have found it
