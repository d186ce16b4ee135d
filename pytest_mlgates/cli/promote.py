"""``mlgates promote``, ``rollback``, ``reconcile`` and ``lint``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from pytest_mlgates.services.promote import Promotion
    from pytest_mlgates.services.reconcile import Reconciliation


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--to", "to_stage", required=True, help="Staging, Production, Archived or None.")
@click.option("--reason", required=True, help="Why; written to the audit.")
@click.option("--hotfix", is_flag=True, help="Waive champion/challenger (never the gates); needs --approver.")
@click.option("--approver", default="", help="Who approved the hotfix.")
@click.option("--actor", default="", help="Who acts (default: GITHUB_ACTOR, else the login name).")
@click.pass_context
def promote(
    context: click.Context,
    name: str,
    version: str,
    to_stage: str,
    reason: str,
    approver: str,
    actor: str,
    *,
    hotfix: bool,
) -> int:
    """Move VERSION of model NAME to a stage, on the evidence of its last gate run.

    Exit code 1 when it is refused: the stage is unchanged, and the refusal with its reasons is in the audit. Exit code 1 too
    when the registry or the lakehouse does not answer (it is asked for two minutes at most, MLFLOW_HTTP_REQUEST_MAX_RETRIES and
    MLFLOW_HTTP_REQUEST_TIMEOUT change that): the message says whether the move was made; mlgates reconcile settles what broke off.
    """
    from pytest_mlgates import provenance
    from pytest_mlgates.services import promote as service
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    done = service.promote(
        project.registry,
        project.audit,
        project.settings,
        name,
        version,
        to_stage,
        actor=actor or provenance.actor(),
        reason=reason,
        git_sha=provenance.git_state(project.folder)["sha"],
        hotfix=hotfix,
        approver=approver,
    )
    _tell(done)
    return EXIT_OK


@click.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; written to the audit. Needed where the evidence is out of date or gone.")
@click.option("--actor", default="", help="Who acts (default: GITHUB_ACTOR, else the login name).")
@click.pass_context
def rollback(context: click.Context, name: str, reason: str, actor: str) -> int:
    """Return model NAME to the version that was Production before the present one.

    Where its evidence still holds no reason is asked for. Where the model, its data or its evidence were altered none helps.
    """
    from pytest_mlgates import provenance
    from pytest_mlgates.services import promote as service
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    done = service.rollback(
        project.registry,
        project.audit,
        project.settings,
        name,
        actor=actor or provenance.actor(),
        reason=reason,
        git_sha=provenance.git_state(project.folder)["sha"],
    )
    _tell(done)
    return EXIT_OK


@click.command()
@click.argument("names", nargs=-1)
@click.pass_context
def reconcile(context: click.Context, names: tuple[str, ...]) -> int:
    """Finish what a crash left of NAMES (default: all models), and find moves made behind our back.

    Exit code 1 when somebody moved a version or an alias outside of mlgates.
    """
    from pytest_mlgates.services import promote as service
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    code = EXIT_OK
    for name in names or project.registry.names():
        found = service.reconcile(project.registry, project.audit, name, stage_mode=project.settings.policy.stage_mode)
        _tell_found(found)
        if found.quiet:
            say(f"{name}: registry and audit agree")
        if found.alarms:
            code = EXIT_FAILED
    return code


def _tell(done: Promotion) -> None:
    _tell_found(done.found)
    if done.already:
        say(f"{done.name} v{done.version} is in {done.to_stage}: a crash had come before the record, which is made now")
        return
    say(f"{done.name} v{done.version}: {done.from_stage} -> {done.to_stage} (audit row {done.seq})")
    for version in done.archived:
        say(f"{done.name} v{version} made way")
    for waived in done.waived:
        say(f"waived by the reason given: {waived}", err=True)


def _tell_found(found: Reconciliation) -> None:
    for line in found.settled:
        say(f"{found.name}: settled after a crash: {line}", err=True)
    for line in found.alarms:
        say(f"ALARM {line}", err=True)
    for line in found.repaired:
        say(f"{found.name}: repaired: {line}", err=True)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path())
def lint(paths: tuple[str, ...]) -> int:
    """Find version pins in .py, .ipynb, .sql and .yaml files below PATHS; exit 1 when there is one.

    A line with the comment "mlgates: allow-pin" is let through.
    """
    from pytest_mlgates.services.pin_lint import lint_paths

    pins, count = lint_paths(paths)
    for pin in pins:
        say(f"{pin.where}: {pin.found} pins a version; {pin.fix}")
    if pins:
        say(f"{len(pins)} version pins in {count} files", err=True)
        return EXIT_FAILED
    say(f"no version pin in {count} files")
    return EXIT_OK
