"""The closed loop on real parts (``pytest --mlgates-loop``): a fixture that runs the tutorial's eight steps."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_mlgates.closed_loop.embedded import FAULTS, EmbeddedParts
from pytest_mlgates.closed_loop.live import LiveParts
from pytest_mlgates.closed_loop.record import Record
from pytest_mlgates.closed_loop.steps import INJECTIONS, ClosedLoop, new_run, own_rule
from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.wiring import Project

__all__ = ["FAULTS", "INJECTIONS", "ClosedLoop", "closed_loop", "open_loop"]


@pytest.fixture(scope="module")
def closed_loop(pytestconfig: pytest.Config) -> Iterator[ClosedLoop]:
    """The run of the loop that ``--mlgates-loop`` asked for."""
    options = pytestconfig.option
    loop = open_loop(
        Project.open(options.mlgates_settings),
        (options.model_name or [os.environ.get("MODEL_NAME", "")])[0],
        deadline_s=options.mlgates_loop_deadline,
        fault=options.mlgates_loop_fault or "",
        kind=options.mlgates_loop_inject,
        live=options.mlgates_loop_live,
    )
    try:
        loop.start()
        yield loop
    finally:
        loop.close()


def open_loop(
    project: Project, model: str, *, deadline_s: float, fault: str = "", kind: str = "data", live: bool = False
) -> ClosedLoop:
    """Prepare one run of the loop.

    Parameters
    ----------
    project
        The project; its settings name the model, the rule and the retrain command.
    model
        Name of the model.
    deadline_s
        Seconds that each step may take.
    fault
        One of `FAULTS`, or empty.
    kind
        Key of `INJECTIONS`.
    live
        Whether the deployed receiver and channels of the settings are tested, and not embedded ones.

    Raises
    ------
    UsageProblem
        The project has no settings file, or a fault is asked for of deployed parts.
    """
    if live and fault:
        raise UsageProblem("--mlgates-loop-fault breaks embedded parts only; leave out --mlgates-loop-live or the fault")
    run = new_run(live=live)
    folder = project.folder / "mlgates-loop" / run
    rule = own_rule(project.settings, model, run, kind)
    folder.mkdir(parents=True)
    parts = LiveParts(project, rule, os.environ) if live else EmbeddedParts(project, model, rule, folder, fault)
    record = Record(folder, run=run, model=model, kind=kind, fault=fault, live=live)
    return ClosedLoop(project, model, parts, record, run=run, deadline_s=deadline_s, kind=kind)
