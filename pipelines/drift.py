"""Look for drift once: ``python pipelines/drift.py --model NAME``; the same as ``mlgates drift``, for a scheduler.

Exit code 0 quiet, 3 drift, 4 wrong call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pytest_mlgates.cli import main as mlgates


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline; ``--settings PATH`` may come first."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    before = arguments[:2] if arguments[:1] == ["--settings"] else []
    return mlgates([*before, "drift", *arguments[len(before) :]])


if __name__ == "__main__":
    sys.exit(main())
