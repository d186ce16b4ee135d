"""``mlgates evidence`` and ``mlgates settings``."""

from __future__ import annotations

import json

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK
from pytest_mlgates.report.text import json_text


@click.group()
def evidence() -> None:
    """Show or verify the evidence of a version."""


@evidence.command()
@click.argument("name")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help="The sealed document itself.")
@click.pass_context
def show(context: click.Context, name: str, version: str, *, as_json: bool) -> int:
    """Show what was judged of VERSION of model NAME, by what settings and on what data."""
    from pytest_mlgates.services import evidence_store
    from pytest_mlgates.wiring import Project

    registry = Project.from_context(context).registry
    found = evidence_store.latest(registry, registry.get(name, version))
    if as_json:
        click.echo(json_text(json.loads(found.to_bytes()), indent=2))
        return EXIT_OK
    body = found.body
    git = body["git"]
    lines = [
        f"{name} v{version}: {body['verdict'].upper()}  evidence {found.id}, {body['created']}",
        f"  artifact  {found.model['artifact_digest']}",
        f"  holdout   {body['holdout'].get('table')}@{body['holdout'].get('version')}, {body['holdout'].get('rows')} rows",
        f"  settings  {found.settings_digest}",
        f"  git       {git.get('sha') or 'no commit'}{' (dirty)' if git.get('dirty') else ''}",
        f"  looks     {body['looks']}, signed: {'yes' if found.signature else 'no'}",
    ]
    lines += [f"  {r['verdict']:<13}{r['gate']:<17}{r['summary'] or r['hint']}" for r in body["results"]]
    for line in lines:
        say(line)
    return EXIT_OK


@evidence.command()
@click.argument("name")
@click.argument("version")
@click.pass_context
def verify(context: click.Context, name: str, version: str) -> int:
    """Check seal, signature, model files, holdout rows and settings of VERSION's evidence against what is there now."""
    from pytest_mlgates.services import promote as service
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    found, problems = service.check_evidence(project.registry, project.audit, project.settings, name, version)
    for problem in problems:
        say(f"{name} v{version}: {problem}", err=True)
    if problems:
        return EXIT_FAILED
    say(f"{name} v{version}: evidence {found} holds: seal, model files, holdout rows and settings are as they were")
    return EXIT_OK


@click.group()
def settings() -> None:
    """Show the settings in force, or which thresholds a change loosens."""


@settings.command("show")
@click.option("--model", help="Only this model, with its settings digest.")
@click.pass_context
def show_settings(context: click.Context, model: str | None) -> int:
    """Print the settings in force as JSON, defaults filled in."""
    from pytest_mlgates.wiring import Project

    found = Project.from_context(context).settings
    if model is None:
        click.echo(found.model_dump_json(indent=2, by_alias=True, exclude={"tracking_uri"}))
    else:
        click.echo(found.model(model).model_dump_json(indent=2, by_alias=True))
        say(f"digest {found.digest(model)}", err=True)
    return EXIT_OK


@settings.command()
@click.argument("base_ref")
@click.option("--allow", multiple=True, help="Key whose loosening is agreed (repeatable), as the report prints it.")
@click.pass_context
def diff(context: click.Context, base_ref: str, allow: tuple[str, ...]) -> int:
    """Print every threshold that the working tree loosens against the git commit BASE_REF; exit 1 unless --allow names it."""
    from pytest_mlgates.services.settings_diff import changes_since
    from pytest_mlgates.wiring import Project

    changes = changes_since(Project.from_context(context).settings, base_ref)
    code = EXIT_OK
    for change in changes:
        agreed = change.loosens and change.key in allow
        word = "loosened" if change.loosens else "tightened"
        say(f"{word:<10}{change.key}: {change.before} -> {change.after}{' (allowed)' if agreed else ''}")
        if change.loosens and not agreed:
            code = EXIT_FAILED
    for key in allow:
        if key not in {change.key for change in changes if change.loosens}:
            say(f"--allow {key} names nothing that is loosened; drop it", err=True)
    if not changes:
        say(f"no threshold differs from {base_ref}")
    if code:
        click.echo("a threshold is looser than before; have it agreed, then name it with --allow KEY", err=True)
    return code
