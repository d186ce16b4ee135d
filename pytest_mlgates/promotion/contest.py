"""Champion against challenger, day by day: when is the challenger shown to be better? Pure.

Three rules together. *N wins in a row* alone promotes one of two equal models within a year in about three of four cases, so a
second rule holds the error: an *e-value*, the wealth of gamblers who bet on the challenger and start with 1. If the two are
equal, the wealth reaches 20 at any time with probability at most 1/20 (Ville's inequality), however often one looks. The bets
are those of `stats.evalue`, one every three days on the differences

    d = (champion − challenger) / (champion + challenger) of a day's losses.

Both rules speak of wins. A challenger that wins most days by little and loses the others by much is kept out by the third while
it shows: the mean of d over all days must be above 0. That is an estimate, not a test, and it is looked at every day: of
challengers that win 60 % of days and lose twice as much on the others, about one in four is promoted within a year.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Day:
    """Losses of both on the same rows of one day; smaller is better, at least 0."""

    date: dt.date
    champion: float
    challenger: float

    @property
    def won(self) -> bool:
        """Whether the challenger's loss is the smaller one."""
        return self.challenger < self.champion

    @property
    def difference(self) -> float:
        """``(champion − challenger) / (champion + challenger)``, in [-1, 1]; 0 where both are 0."""
        total = self.champion + self.challenger
        return (self.champion - self.challenger) / total if total > 0 else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Race:
    """How it stands.

    Attributes
    ----------
    days, wins
        Days scored, and those that the challenger won.
    streak, best_streak
        Wins in a row up to the last scored day, and the longest run of them. A day without a score ends a run.
    e_value, best_e_value
        Wealth after the last complete bet, and the largest so far (which decides: the error bound holds for it).
    wins_required, e_required
        What is asked for; ``e_required`` has the number of challengers in it.
    lead, lead_se
        Mean of `Day.difference` over all days, above 0 where the challenger's losses are the smaller ones on the whole; and its
        standard error as if days were independent.
    gaps
        Days between the first and the last scored day that have no score.
    """

    days: int
    wins: int
    streak: int
    best_streak: int
    e_value: float
    best_e_value: float
    wins_required: int
    e_required: float
    lead: float
    lead_se: float
    gaps: tuple[dt.date, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the challenger has shown that it is better."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not there yet, in words."""
        lacks = []
        if self.best_streak < self.wins_required:
            lacks.append(f"{self.wins_required} wins in a row (longest run so far {self.best_streak})")
        if self.best_e_value < self.e_required:
            lacks.append(f"an e-value of {self.e_required:g} (so far {self.best_e_value:.3g})")
        elif self.lead <= self.lead_se:
            side = "smaller" if self.lead > 0 else "larger"
            found = f"so far {abs(self.lead):.2%} of their sum {side} a day, standard error {self.lead_se:.2%}"
            lacks.append(f"surely smaller losses on the whole ({found})")
        return tuple(lacks)

    @property
    def summary(self) -> str:
        """One line for people."""
        stand = f"{self.wins} of {self.days} days won, longest run {self.best_streak}, e-value {self.best_e_value:.3g}"
        gap = f", {len(self.gaps)} days without a score" if self.gaps else ""
        return f"{stand}{gap}; " + (f"missing: {' and '.join(self.missing)}" if self.missing else "shown to be better")


def judge(days: Iterable[Day], *, wins_required: int = 7, min_e_value: float = 20.0, challengers: int = 1) -> Race:
    """Judge a race.

    Parameters
    ----------
    days
        Scored days in any order, one entry a date; bets are counted from the earliest.
    wins_required
        Wins in a row.
    min_e_value
        1 / error: 20 holds the chance that an equal challenger is ever promoted at 5 %.
    challengers
        How many challengers run against the same champion; the e-value required is multiplied by it (Bonferroni).

    Raises
    ------
    ValueError
        A date twice, or a loss that is negative or not finite.

    Examples
    --------
    >>> start = dt.date(2026, 1, 1)
    >>> race = judge(Day(start + dt.timedelta(days=i), 2.0, 1.0) for i in range(70))
    >>> race.wins, race.best_streak, race.agrees
    (70, 70, True)
    """
    ordered = sorted(days, key=lambda day: day.date)
    for day in ordered:
        if not all(math.isfinite(loss) and loss >= 0 for loss in (day.champion, day.challenger)):
            raise ValueError(f"the losses of {day.date} are {day.champion} and {day.challenger}; expected finite, at least 0")
    streak, best, gaps = _runs(ordered)
    path = _wealth(ordered)
    lead = math.fsum(day.difference for day in ordered) / max(len(ordered), 1)
    spread = math.fsum((day.difference - lead) ** 2 for day in ordered)
    return Race(
        days=len(ordered),
        wins=sum(day.won for day in ordered),
        streak=streak,
        best_streak=best,
        e_value=path[-1] if path else 1.0,
        best_e_value=max([1.0, *path]),
        wins_required=wins_required,
        e_required=min_e_value * max(challengers, 1),
        lead=lead,
        lead_se=math.sqrt(spread) / max(len(ordered), 1),
        gaps=gaps,
    )


def _runs(days: Sequence[Day]) -> tuple[int, int, tuple[dt.date, ...]]:
    streak = best = 0
    gaps: list[dt.date] = []
    last: dt.date | None = None
    for day in days:
        if last == day.date:
            raise ValueError(f"{day.date} stands twice")
        if last is not None and (day.date - last).days > 1:
            gaps += [last + dt.timedelta(days=i) for i in range(1, (day.date - last).days)]
            streak = 0
        streak = streak + 1 if day.won else 0
        best = max(best, streak)
        last = day.date
    return streak, best, tuple(gaps)


def _wealth(days: Sequence[Day]) -> list[float]:
    """Wealth after each complete block of days that has a score."""
    if not days:
        return []
    from pytest_mlgates.stats.evalue import BLOCK, wealth  # brings scipy, which a promotion does not need

    first, last = days[0].date, days[-1].date
    blocks: dict[int, list[float]] = {}
    for day in days:
        blocks.setdefault((day.date - first).days // BLOCK, []).append(day.difference)
    complete = ((last - first).days + 1) // BLOCK
    return list(wealth(blocks[i] for i in sorted(blocks) if i < complete))
