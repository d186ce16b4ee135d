"""``mlgates endpoint …``: serve a model version over HTTP, ask an endpoint."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
from pathlib import Path
from typing import Any

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import ExtraMissing, UsageProblem
from pytest_mlgates.report.text import json_text

_TOKEN = "MLGATES_ENDPOINT_TOKEN"  # noqa: S105 the name of a variable


@click.group()
def endpoint() -> None:
    """Serve a model version over HTTP; ask an endpoint."""


@endpoint.command()
@click.option("--model", "model", help="Registered model (default: the only one in the settings).")
@click.option("--stage", default="Production", show_default=True, help="Stage, @alias or version; a stage is followed.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0 takes a free port.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Worker processes (minInstances).")
@click.option("--insecure-local", is_flag=True, help=f"No bearer token; only on loopback. Otherwise {_TOKEN} is needed.")
@click.option("--state", "state", type=click.Path(path_type=Path), help="Folder of the endpoint's state.")
@click.option("--follow-every", default=5.0, show_default=True, help="Seconds between two looks at the registry; 0: never.")
@click.option("--prediction-log/--no-prediction-log", default=True, show_default=True, help="Log predictions to lh_gold.")
@click.option(
    "--hash-column", multiple=True, help="Column with personal data, hashed in the log (salt: MLGATES_LOG_SALT); may repeat."
)
@click.option("--max-rows", type=click.IntRange(1), help="Rows of one request (default: the settings', else 10,000).")
@click.option("--max-body", type=click.IntRange(1), help="Bytes of one request (default: the settings', else 4 MiB).")
@click.option("--from-routes", is_flag=True, hidden=True, help="Serve the routes in --state as they are.")
@click.option("--log-level", default="warning", hidden=True)
@click.pass_context
def serve(
    context: click.Context, model: str | None, stage: str, host: str, port: int, workers: int, insecure_local: bool,
    state: Path | None, follow_every: float, prediction_log: bool, hash_column: tuple[str, ...], from_routes: bool, log_level: str,
    max_rows: int | None, max_body: int | None,
) -> None:  # fmt: skip
    """Serve models:/MODEL/STAGE: POST /score, GET /health, /schema, /metrics, /openapi.json."""
    need("gunicorn", "msgspec", "uvloop")
    token = os.environ.get(_TOKEN, "")
    check_exposure(host, token, insecure_local=insecure_local)
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    name = model or only_model(project)
    folder = state or project.folder / ".mlgates" / "endpoints" / name
    from pytest_mlgates import serving
    from pytest_mlgates.endpoint.routes import RoutesFile
    from pytest_mlgates.endpoint.workers import ServerOptions

    source = serving.RegistrySource(project)
    if not from_routes:
        serving.write_first_routes(source, RoutesFile(folder), name, stage)
    served = RoutesFile(folder).read()
    labels = ", ".join(f"v{t.version}" for t in served.targets)
    say(
        f"serving {name} {labels} ({stage}) on http://{host}:{port or '(free port)'}/score with {workers} workers; stop: Ctrl-C"
    )
    if workers < 2:
        click.echo("warning: one worker answers nothing while it restarts; minInstances >= 2 is advised", err=True)
    limits = project.settings.endpoint(name)
    given = {"hash_columns": (*limits.hash_columns, *hash_column), "max_rows": max_rows, "max_body_bytes": max_body}
    limits = limits.model_copy(update={key: value for key, value in given.items() if value is not None})
    options = ServerOptions(state=folder, host=host, port=port, workers=workers, log_level=log_level)
    serving.serve(
        project,
        source,
        options,
        token=token,
        follow_every_s=follow_every,
        log_predictions=prediction_log,
        limits=limits,
    )


@endpoint.command(hidden=True)
@click.option("--state", required=True, type=click.Path(path_type=Path))
@click.pass_context
def advance(context: click.Context, state: Path) -> None:
    """Look at the registry once for a running endpoint; where its stage has moved, let it move on."""
    from pytest_mlgates import serving
    from pytest_mlgates.endpoint.routes import RoutesFile
    from pytest_mlgates.endpoint.service import advance as advance_routes
    from pytest_mlgates.wiring import Project

    advance_routes(serving.RegistrySource(Project.from_context(context)), RoutesFile(state))


@endpoint.command(hidden=True)
@click.option("--state", required=True, type=click.Path(path_type=Path))
def prove(state: Path) -> None:
    """Compare what a running endpoint assumes of its versions with MLflow's answers."""
    from pytest_mlgates import serving
    from pytest_mlgates.endpoint.routes import RoutesFile

    os.nice(10)
    for version in serving.prove_assumed(RoutesFile(state)):
        say(f"v{version}: only MLflow's own way gives its answers; it is loaded through MLflow", err=True)


@endpoint.command()
@click.option("--uri", required=True, help="Scoring URI, or the server's address.")
def health(uri: str) -> None:
    """Print what the endpoint's /health says."""
    _print(_client(uri).health())


@endpoint.command()
@click.option("--uri", required=True, help="Scoring URI, or the server's address.")
@click.option("--row", "rows", multiple=True, required=True, help='A row as JSON: {"column": value, …}; may repeat.')
@click.option("--request-id", help="Sent as x-request-id.")
def score(uri: str, rows: tuple[str, ...], request_id: str | None) -> None:
    """Score rows and print the answer."""
    try:
        parsed = [json.loads(row) for row in rows]
    except ValueError as error:
        raise UsageProblem(f"--row is not JSON: {error}") from None
    if any(not isinstance(row, dict) for row in parsed):
        raise UsageProblem('--row is not a JSON object; expected {"column": value, …}')
    _print(_client(uri).score(parsed, request_id=request_id))


@endpoint.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, help="0 takes a free port.")
@click.option("--insecure-local", is_flag=True, help=f"No bearer token; only on loopback. Otherwise {_TOKEN} is needed.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder of the endpoints (default: .mlgates/endpoints).")
@click.option("--per-minute", default=600.0, show_default=True, help="Control requests a minute; more are answered 429.")
@click.option("--log-level", default="warning", hidden=True)
@click.pass_context
def control(
    context: click.Context, host: str, port: int, insecure_local: bool, state: Path | None, per_minute: float, log_level: str,
) -> None:  # fmt: skip
    """Serve the control plane: create, get, list, update, pause, delete endpoints, in the tutorial's and Fabric's shapes."""
    need("gunicorn", "msgspec", "uvloop")
    token = os.environ.get(_TOKEN, "")
    check_exposure(host, token, insecure_local=insecure_local)
    from pytest_mlgates import serving
    from pytest_mlgates.endpoint.workers import ServerOptions
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    folder = (state or project.folder / ".mlgates" / "endpoints").resolve()
    say(
        f"control plane on http://{host}:{port or '(free port)'}/v1/workspaces/WORKSPACE/mlmodels/MODEL/endpoints; stop: Ctrl-C"
    )
    options = ServerOptions(state=folder / ".control", host=host, port=port, workers=1, log_level=log_level)
    serving.control(project, options, folder=folder, token=token, per_minute=per_minute)


def _control_options(command: Any) -> Any:
    """The options that every command against a control plane takes."""
    for option in (
        click.option("--control", "base", default="http://127.0.0.1:8080", show_default=True, envvar="MLGATES_CONTROL",
                     help="Control plane; https://api.fabric.microsoft.com for Fabric."),
        click.option("--workspace", default="local", show_default=True, envvar="FABRIC_WORKSPACE_ID"),
        click.option("--model", required=True, envvar="MODEL_NAME", help="Registered model (Fabric: its GUID)."),
        click.option("--wait", "wait_s", default=120.0, show_default=True, help="Seconds to wait for the operation; 0: do not."),
    ):  # fmt: skip
        command = option(command)
    return command


@endpoint.command()
@_control_options
@click.option("--name", required=True)
@click.option("--model-version", required=True, help="Version, stage or @alias.")
@click.option("--instance-type", default="local", show_default=True)
@click.option("--min-instances", default=2, show_default=True)
@click.option("--max-instances", type=int, help="Default: as many as --min-instances.")
def create(
    base: str, workspace: str, model: str, wait_s: float, name: str, model_version: str, instance_type: str, min_instances: int,
    max_instances: int | None,
) -> None:  # fmt: skip
    """Create an endpoint."""
    body = {"name": name, "modelVersion": model_version, "instanceType": instance_type, "minInstances": min_instances}
    body["maxInstances"] = max(max_instances or 0, min_instances)
    _print(_plane(base, workspace, model).create(body, wait_s=wait_s))


@endpoint.command()
@_control_options
@click.option("--name", required=True)
def get(base: str, workspace: str, model: str, wait_s: float, name: str) -> None:
    """Describe an endpoint: definition, status, scoringUri."""
    del wait_s
    _print(_plane(base, workspace, model).get(name))


@endpoint.command("list")
@_control_options
def list_(base: str, workspace: str, model: str, wait_s: float) -> None:
    """Describe all endpoints of a model."""
    del wait_s
    _print({"value": _plane(base, workspace, model).endpoints()})


@endpoint.command()
@_control_options
@click.option("--name", required=True)
@click.option("--model-version", help="Version, stage or @alias.")
@click.option("--min-instances", type=int)
@click.option("--max-instances", type=int)
@click.option("--traffic", multiple=True, help="VERSION=PERCENT; may repeat; adds up to 100.")
def update(
    base: str, workspace: str, model: str, wait_s: float, name: str, model_version: str | None, min_instances: int | None,
    max_instances: int | None, traffic: tuple[str, ...],
) -> None:  # fmt: skip
    """Change an endpoint without a failed request: version, instances, traffic split."""
    change: dict[str, Any] = {"modelVersion": model_version, "minInstances": min_instances, "maxInstances": max_instances}
    change = {key: value for key, value in change.items() if value is not None}
    if traffic:
        try:
            change["trafficSplit"] = {v: float(share) for v, _, share in (item.partition("=") for item in traffic)}
        except ValueError:
            raise UsageProblem(f"--traffic {' '.join(traffic)}: expected VERSION=PERCENT") from None
    _print(_plane(base, workspace, model).update(name, change, wait_s=wait_s))


@endpoint.command()
@_control_options
@click.option("--name", required=True)
def pause(base: str, workspace: str, model: str, wait_s: float, name: str) -> None:
    """Stop all instances; the definition is kept."""
    _print(_plane(base, workspace, model).pause(name, wait_s=wait_s))


@endpoint.command()
@_control_options
@click.option("--name", required=True)
def delete(base: str, workspace: str, model: str, wait_s: float, name: str) -> None:
    """Delete an endpoint."""
    _plane(base, workspace, model).delete(name, wait_s=wait_s)


@endpoint.command()
@_control_options
@click.option("--name", required=True)
def rollback(base: str, workspace: str, model: str, wait_s: float, name: str) -> None:
    """Return to what was served before the last change."""
    _print(_plane(base, workspace, model).action(name, "rollback", wait_s=wait_s))


@endpoint.command()
@_control_options
@click.option("--name", required=True)
@click.option("--version", required=True, help="Version that gets 5, then 50, then 100 % of the traffic.")
@click.option("--min-calls", default=200, show_default=True, help="Answers per step before the next.")
@click.option("--objective-ms", default=200.0, show_default=True, help="At most 1 % of the answers may take longer.")
@click.option("--max-error-share", default=0.01, show_default=True, help="Share of requests that may fail.")
@click.option(
    "--max-mean-shift", default=0.5, show_default=True, help="Of the mean prediction, in the champion's standard deviations."
)
@click.option(
    "--step", "steps", multiple=True, type=float, help="Share of the traffic in percent; may repeat (default: 5, 50, 100)."
)
@click.option("--step-timeout", default=600.0, show_default=True, help="Seconds in which a step must see --min-calls answers.")
def canary(
    base: str, workspace: str, model: str, wait_s: float, name: str, version: str, min_calls: int, objective_ms: float,
    max_error_share: float, max_mean_shift: float, steps: tuple[float, ...], step_timeout: float,
) -> None:  # fmt: skip
    """Roll a version out in steps that stop themselves on errors, slow answers or a shifted prediction mean."""
    limits = {
        "min_calls": min_calls, "objective_ms": objective_ms, "max_error_share": max_error_share, "max_mean_shift": max_mean_shift,
    }  # fmt: skip
    fields: dict[str, Any] = {"version": version, "limits": limits, "stepTimeoutSeconds": step_timeout}
    fields |= {"steps": steps} if steps else {}
    _print(_plane(base, workspace, model).action(name, "canary", fields, wait_s=wait_s))


@endpoint.command()
@_control_options
@click.option("--name", required=True)
@click.option("--version", help="Version that scores the same requests unseen; left out: none any more.")
def shadow(base: str, workspace: str, model: str, wait_s: float, name: str, version: str | None) -> None:
    """Let a version score in the shadow of the one that answers."""
    _print(_plane(base, workspace, model).action(name, "shadow", {"version": version}, wait_s=wait_s))


def need(*modules: str) -> None:
    """Raise ExtraMissing for the first module that is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ExtraMissing.of(module, "serve", "the endpoint server")


def check_exposure(host: str, token: str, *, insecure_local: bool) -> None:
    """Refuse to serve without a token, unless on loopback and told so. Raises UsageProblem."""
    if token:
        return
    if not insecure_local:
        raise UsageProblem(
            f"no bearer token: set {_TOKEN}, or give --insecure-local for a server that only this machine can reach"
        )
    if not is_loopback(host):
        raise UsageProblem(
            f"--insecure-local with --host {host}: other machines could reach it; use 127.0.0.1, or set {_TOKEN}"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def only_model(project: Any) -> str:
    """The one model of the settings, else of the registry. Raises UsageProblem where there are several."""
    named = [n for n in project.settings.models if not set(n) & set("*?[")]
    if len(named) == 1:
        return str(named[0])
    raise UsageProblem("which model? give --model NAME (the settings do not name exactly one)")


def _client(uri: str) -> Any:
    from pytest_mlgates.endpoint.client import EndpointClient

    return EndpointClient(uri)


def _plane(base: str, workspace: str, model: str) -> Any:
    from pytest_mlgates.endpoint.control_client import ControlClient

    return ControlClient(base, workspace, model)


def _print(answer: dict[str, Any]) -> None:
    click.echo(json_text(answer, indent=2))
