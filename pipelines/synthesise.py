"""Make up the slot revenue table and the model's rows: ``python pipelines/synthesise.py --machines 10``."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Sequence

from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.redaction import redacting
from pytest_mlgates.reference import features
from pytest_mlgates.reference.synthesise import Scale, extend, synthesise
from pytest_mlgates.tables import FACT
from pytest_mlgates.wiring import Project


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 when the tables are written."""
    arguments = _parser().parse_args(argv)
    try:
        scale = Scale(
            properties=arguments.properties,
            machines=arguments.machines,
            days=arguments.days,
            end=arguments.end_date,
            seed=arguments.seed,
            shift_from=arguments.shift_from,
            level_shift=arguments.level_shift,
        )
        store = Project.open(arguments.settings, create=True).lakehouse
        written = (extend if arguments.append else synthesise)(store, scale)
        frame, _ = features.property_days(store)
        features.write_features(store, frame)
    except MlgatesError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{FACT} version {written.version}: {written.rows:,} rows written, {written.start} to {written.end}")
    print(f"{features.FEATURES_TABLE}: {len(features.with_lags(frame)):,} property-days with every input")
    return 0


def _parser() -> argparse.ArgumentParser:
    default = Scale()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", help="settings file (default: mlgates.toml of this directory)")
    parser.add_argument("--properties", type=int, default=default.properties)
    parser.add_argument("--machines", type=int, default=default.machines, help="in each property (default: %(default)s)")
    parser.add_argument("--days", type=int, default=default.days)
    parser.add_argument("--end-date", type=dt.date.fromisoformat, default=default.end, help="last date (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--append", action="store_true", help="append the days after the table's last date instead of writing anew"
    )
    parser.add_argument("--shift-from", type=dt.date.fromisoformat, help="date from which the level of revenue is another")
    parser.add_argument("--level-shift", type=float, default=default.level_shift, help="factor on revenue from that date on")
    return parser


if __name__ == "__main__":
    with redacting():
        sys.exit(main())
