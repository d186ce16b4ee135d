"""``mlgates challenger``: run the nightly comparison, show how the race stands."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_OK, UsageProblem

if TYPE_CHECKING:
    from pytest_mlgates.promotion.contest import Race


@click.group()
def challenger() -> None:
    """Champion/challenger: score new days, show how the race stands."""


@challenger.command()
@click.option("--champion", required=True, help="Model whose Production version is champion.")
@click.option("--challenger", "challenger_name", required=True, help="Model whose newest Staging version challenges.")
@click.option(
    "--window-days", default=1, show_default=True, type=click.IntRange(min=1), help="Days to look back on a first run."
)
@click.option("--wins", type=click.IntRange(min=1), help="Wins in a row to ask for (default: the settings; never fewer).")
@click.option("--since", help="Look back to this day instead (YYYY-MM-DD).")
@click.option("--today", help="The day it is (default: today, UTC); days before it are scored.")
@click.option("--table", default="", help="Table of inputs and actuals by day (default: the settings).")
@click.option("--time-column", default="", help="Its DATE column (default: the settings).")
@click.pass_context
def run(
    context: click.Context,
    champion: str,
    challenger_name: str,
    window_days: int,
    wins: int | None,
    since: str | None,
    today: str | None,
    table: str,
    time_column: str,
) -> int:
    """Score every day up to yesterday that this pair has no score for; a second run scores nothing twice."""
    from pytest_mlgates import progress
    from pytest_mlgates.services import challenge
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    settings = project.settings
    if wins is not None and wins < settings.policy.consecutive_wins:
        least = settings.policy.consecutive_wins
        raise UsageProblem(f"--wins {wins} is less than the {least} of [policy] consecutive_wins; change it in the settings")
    pair = challenge.find_pair(project.registry, settings, champion, challenger_name)
    with progress.waiting("scoring the days"):
        done = challenge.evaluate(
            project.registry,
            project.lakehouse,
            settings,
            *pair,
            today=_date(today) or dt.datetime.now(dt.UTC).date(),
            window_days=window_days,
            since=_date(since),
            table=table,
            time_column=time_column,
        )
    days = f"{done.scored[0]} to {done.scored[-1]}" if done.scored else "none"
    say(f"champion {done.champion.label}, challenger {done.challenger.label}")
    say(f"{len(done.scored)} days scored ({days}), {len(done.already)} scored before, {len(done.gaps)} gaps")
    for day, why in done.gaps[:10]:
        say(f"  gap {day}: {why}")
    if len(done.gaps) > 10:
        say(f"  … and {len(done.gaps) - 10} more")
    _tell(done.race, wins)
    return EXIT_OK


@challenger.command()
@click.option("--champion", help="Model whose Production version is champion (default: the challenger's).")
@click.option(
    "--challenger", "challenger_name", help="Model whose newest Staging version challenges (default: the champion's)."
)
@click.pass_context
def status(context: click.Context, champion: str | None, challenger_name: str | None) -> int:
    """Show the race: days, wins, e-value, what is missing. With no option: of every version in Staging that has a champion."""
    from pytest_mlgates.services import challenge
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    one, other = champion or challenger_name, challenger_name or champion
    if one and other:
        pairs = [challenge.find_pair(project.registry, project.settings, one, other)]
    else:
        pairs = challenge.all_pairs(project.registry, project.settings)
    for pair in pairs:
        say(f"champion {pair[0].label}, challenger {pair[1].label}")
        _tell(challenge.race_between(project.lakehouse, project.settings, *pair), None)
    if not pairs:
        say("no version in Staging has a champion in Production; promote one of each, then: mlgates challenger run")
    return EXIT_OK


def _tell(race: Race, wins: int | None) -> None:
    say(f"days {race.days}, wins {race.wins}, in a row {race.streak} (longest {race.best_streak})")
    say(f"e-value {race.e_value:.3g} (largest {race.best_e_value:.3g}), needed {race.e_required:g}")
    if race.gaps:
        say(f"days without a score: {', '.join(map(str, race.gaps[:10]))}{' …' if len(race.gaps) > 10 else ''}")
    missing = list(race.missing)
    if wins is not None and race.best_streak < wins:
        missing = [f"{wins} wins in a row (longest run so far {race.best_streak})", *(m for m in missing if "wins" not in m)]
    say(f"missing: {' and '.join(missing)}" if missing else "the challenger is shown to be better: ready for Production")


def _date(text: str | None) -> dt.date | None:
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UsageProblem(f"{text!r} is not a date; write YYYY-MM-DD") from None
