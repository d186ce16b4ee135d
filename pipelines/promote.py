"""Move a model version to a stage, on evidence: `mlgates promote` as a scheduled job.

``MODEL_NAME`` and ``MODEL_VERSION`` stand in for the two names.
"""

from __future__ import annotations

import argparse
import os
import sys

from pytest_mlgates.cli import main as mlgates


def main(argv: list[str] | None = None) -> int:
    """Run the promotion; return the exit code (0 moved, 1 refused, 4 the call is wrong)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default=os.environ.get("MODEL_NAME"), help="registered model (default: MODEL_NAME)")
    parser.add_argument("--version", default=os.environ.get("MODEL_VERSION"), help="its version (default: MODEL_VERSION)")
    parser.add_argument("--to", required=True, help="Staging, Production, Archived or None")
    parser.add_argument("--reason", required=True, help="why; written to the audit")
    parser.add_argument("--hotfix", action="store_true", help="waive champion/challenger, never the gates")
    parser.add_argument("--approver", default="", help="who approved the hotfix")
    args = parser.parse_args(argv)
    if not args.name or not args.version:
        parser.error("name the version: --name and --version, or MODEL_NAME and MODEL_VERSION")
    words = ["promote", args.name, args.version, "--to", args.to, "--reason", args.reason, "--approver", args.approver]
    return mlgates([*words, "--hotfix"] if args.hotfix else words)


if __name__ == "__main__":
    sys.exit(main())
