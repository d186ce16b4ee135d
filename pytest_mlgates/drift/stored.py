"""The reference distribution that is stored with a model version: a check then reads the current window only.

A profile of every column, and its rows per day and cell where the rows have days, from which `blocks.designs_from` knows how
much windows vary by themselves. About 60 kB a numeric column and year before compression.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pytest_mlgates.drift.blocks import CellRule, DayCells, day_cells
from pytest_mlgates.drift.columns import Kind
from pytest_mlgates.drift.profile import Profile, exact_profile, profile_from_table, profile_table
from pytest_mlgates.drift.sources import as_source
from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.tables import REFERENCE_DISTRIBUTION, REFERENCE_KEYS, SCHEMAS

ARTIFACT = "mlgates/reference_distribution.parquet"
PREDICTION = "__prediction__"
SCHEMA = pa.schema([f for f in SCHEMAS[REFERENCE_DISTRIBUTION] if f.name not in REFERENCE_KEYS])


@dataclasses.dataclass(frozen=True, slots=True)
class ReferenceDistribution:
    """What a version was trained on: profile of each column, and rows per day and cell where days are known."""

    profile: Profile
    cells: Mapping[str, DayCells]

    @classmethod
    def of(cls, rows: pa.Table, days: NDArray[np.int64] | None = None) -> ReferenceDistribution:
        """Profile rows; ``days`` (shape (rows,)) is the day number of each."""
        found = exact_profile(as_source(rows, "reference"), rows.column_names)
        counted = {} if days is None else {name: day_cells(rows.column(name), days) for name in rows.column_names}
        return cls(found, {name: cells for name, cells in counted.items() if cells is not None})

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last day number, ``None`` where days are not known."""
        for cells in self.cells.values():
            return int(cells.days[0]), int(cells.days[-1])
        return None

    def to_table(self) -> pa.Table:
        """Return one row a column, in the schema of ``lh_gold.reference_distribution`` without its keys."""
        records = profile_table(self.profile).to_pylist()
        for record in records:
            cells = self.cells.get(record["column"])
            if cells is not None:
                record |= {
                    "cell_names": list(cells.rule.names), "cell_numbers": cells.rule.numbers.tolist(),
                    "cell_discrete": cells.rule.discrete, "days": cells.days.tolist(), "day_counts": cells.table.ravel().tolist(),
                }  # fmt: skip
        return pa.Table.from_pylist(records, schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> ReferenceDistribution:
        """Read `to_table`."""
        records = table.to_pylist()
        return cls(profile_from_table(table), {r["column"]: _cells(r) for r in records if r["days"] is not None})

    def to_bytes(self) -> bytes:
        """Return it as one Parquet file: the artifact of a model version."""
        sink = io.BytesIO()
        pq.write_table(self.to_table(), sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ReferenceDistribution:
        """Read `to_bytes`. Raises DataUnusable."""
        try:
            return cls.from_table(pq.ParquetFile(io.BytesIO(data)).read())
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataUnusable(f"the stored reference distribution cannot be read ({reason}); make it again") from error


def _cells(record: Mapping[str, Any]) -> DayCells:
    rule = CellRule(
        Kind(record["kind"]), tuple(record["cell_names"]), np.asarray(record["cell_numbers"], dtype=float),
        discrete=bool(record["cell_discrete"]),
    )  # fmt: skip
    days = np.asarray(record["days"], dtype=np.int64)
    return DayCells(rule, days, np.asarray(record["day_counts"], dtype=float).reshape(days.size, rule.cells))
