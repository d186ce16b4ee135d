"""The ``mlgates`` command: a table of subcommands, each imported when it is called."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

import click

from pytest_mlgates import __version__
from pytest_mlgates.errors import EXIT_USAGE, MlgatesError

# command: (module:function, one line of help); the help stands here so that `mlgates --help` imports nothing heavy
COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("quickstart:quickstart", "Run the whole ring once, on embedded parts, in a folder."),
    "init": ("project:init", "Print (or write) a template of mlgates.toml."),
    "registry": ("registry:registry", "List the versions of a model: stage, run, metrics, lineage."),
    "expect": ("registry:expect", "Store today's predictions as what gate 2 expects of a version."),
    "plan": ("plan:plan", "Per gate: the defect that today's holdout can detect, and the rows it would need."),
    "evidence": ("evidence:evidence", "Show or verify the evidence of a version."),
    "dashboard": ("dashboard:dashboard", "Write or serve the operations page."),
    "report": ("report:report", "Write the evidence of a version as one self-contained page."),
    "readiness": ("health:readiness", "The twelve readiness items of a model, judged by evidence."),
    "verify": ("health:verify", "The five final verifications of a model."),
    "doctor": ("health:doctor", "What is wrong with this installation, and how to mend it."),
    "cleanup": ("health:cleanup", "Pause endpoints, vacuum tables, archive old runs (--dry-run by default)."),
    "lakehouse": ("lakehouse:lakehouse", "Compact tables and write checkpoints."),
    "promote": ("promote:promote", "Move a version to a stage, on evidence."),
    "rollback": ("promote:rollback", "Return to the version that was Production before."),
    "reconcile": ("promote:reconcile", "Finish what a crash left; find moves made behind our back."),
    "audit": ("audit:audit", "List, verify, export or archive the promotion audit."),
    "challenger": ("challenger:challenger", "Champion/challenger: how the race stands."),
    "settings": ("evidence:settings", "Show the settings in force, or which thresholds a change loosens."),
    "lint": ("promote:lint", "Find version pins (models:/NAME/3) in consumers' code."),
    "endpoint": ("endpoint:endpoint", "Serve a model version over HTTP."),
    "loadtest": ("loadtest:loadtest", "Load-test an endpoint and judge its latency."),
    "drift": ("drift:drift", "Compare the current window with the reference window."),
    "alerts": ("alerts:alerts", "Evaluate alert rules, send alerts, receive them."),
    "azure": ("azure:azure", "Write the alert wiring as files for Azure and Fabric."),
    "retrain": ("retrain:retrain", "Show or approve retraining runs."),
}


class _LazyGroup(click.Group):
    """Knows its commands by name; imports the module of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for name in COMMANDS if _module_exists(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS or not _module_exists(cmd_name):
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _module_exists(name: str) -> bool:
    return importlib.util.find_spec(f"{__name__}.{COMMANDS[name][0].partition(':')[0]}") is not None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlgates")
@click.option("--settings", "settings_path", type=click.Path(), help="mlgates.toml to use (default: nearest, upwards).")
@click.pass_context
def cli(context: click.Context, settings_path: str | None) -> None:
    """Release gates, promotion, drift and the retraining loop of a model registry.

    Gates themselves run under pytest: pytest --model-name NAME --model-version V

    Exit codes: 0 all well, 1 failed or refused, 3 drift found, 4 the call or the settings are wrong.
    """
    context.obj = {"settings": settings_path}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code. Our own errors are one line on stderr, never a traceback."""
    from pytest_mlgates.garbage import rare_collections
    from pytest_mlgates.redaction import redacting
    from pytest_mlgates.wiring import limit_threads

    limit_threads()
    with redacting(), rare_collections():
        return _run(argv)


def _run(argv: list[str] | None) -> int:
    try:
        outcome: Any = cli.main(args=argv, prog_name="mlgates", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.Abort:
        click.echo("mlgates: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE if isinstance(error, click.UsageError) else 1
    except MlgatesError as error:
        click.echo(f"mlgates: {_told(error)}", err=True)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away (`mlgates … | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return outcome if isinstance(outcome, int) else 0


def _told(error: MlgatesError) -> str:
    """An error as one line, whatever names it quotes; mistakes in the settings are one a line."""
    from pytest_mlgates.report.text import printable

    mistakes = getattr(error, "problems", None)
    return "\n".join(printable(line) for line in str(error).splitlines()) if mistakes else printable(str(error))
