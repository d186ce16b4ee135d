"""The stages of a model version and every legal move between them: one table that knows nothing else.

::

            gates                 gates + contest
    None ──────────▶ Staging ───────────────────▶ Production
     ▲                │  ▲                          │  ▲
     └────────────────┘  │ gates                    │  │ rollback
         withdraw        │                   retire │  │
                         └────────── Archived ◀─────┘  │
                                        └──────────────┘
"""

from __future__ import annotations

import dataclasses

from pytest_mlgates.errors import UsageProblem, nearest

NONE = "None"
STAGING = "Staging"
PRODUCTION = "Production"
ARCHIVED = "Archived"
STAGES = (NONE, STAGING, PRODUCTION, ARCHIVED)

ALIASES = {STAGING: "challenger", PRODUCTION: "champion"}
"""The alias that is kept in step with a stage."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """What one legal move needs and does.

    Attributes
    ----------
    name
        The word for it.
    gates
        Passing evidence is needed.
    contest
        Champion/challenger must agree (a hotfix with an approver waives it).
    was_production
        Only a version that has been Production before may take it; evidence may be out of date when a reason is given.
    archives_others
        The versions that are in the target stage go to Archived in the same transaction.
    """

    name: str
    gates: bool = False
    contest: bool = False
    was_production: bool = False
    archives_others: bool = False


MOVES: dict[tuple[str, str], Move] = {
    (NONE, STAGING): Move("promote", gates=True),
    (ARCHIVED, STAGING): Move("promote", gates=True),
    (STAGING, PRODUCTION): Move("promote", gates=True, contest=True, archives_others=True),
    (ARCHIVED, PRODUCTION): Move("rollback", gates=True, was_production=True, archives_others=True),
    (STAGING, NONE): Move("withdraw"),
    (NONE, ARCHIVED): Move("retire"),
    (STAGING, ARCHIVED): Move("retire"),
    (PRODUCTION, ARCHIVED): Move("retire"),
}


def stage_named(text: str) -> str:
    """Return the stage as it is written, from any capitals. Raises UsageProblem with the nearest name."""
    for stage in STAGES:
        if stage.lower() == text.strip().lower():
            return stage
    raise UsageProblem(f"{text!r} is not a stage; {nearest(text.capitalize(), STAGES)}")


def move_between(from_stage: str, to_stage: str) -> Move | None:
    """Return the move from one stage to another, ``None`` where it is not legal."""
    return MOVES.get((from_stage, to_stage))


def why_illegal(from_stage: str, to_stage: str) -> str:
    """Say why there is no such move and which there are."""
    if from_stage == to_stage:
        return f"it is in {to_stage} already"
    ways = [to for (start, to) in MOVES if start == from_stage]
    return f"there is no move from {from_stage} to {to_stage}; from {from_stage} it may go to {' or '.join(ways)}"
