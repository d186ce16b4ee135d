"""Profiles and scores made by Spark, over Spark Connect or a session in this JVM: the only importer of `pyspark`.

The kernel is the one of `drift.profile`, run by ``mapInArrow`` on each partition; it gives one row a column and partition,
and the driver adds them up. So the result differs from a local profile by nothing but the order of a few sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pytest_mlgates.drift.columns import Kind, kind_of
from pytest_mlgates.drift.profile import (
    PROFILE_SCHEMA,
    SAMPLE_ROWS,
    Profile,
    build_profile,
    edges_of,
    profile_from_table,
    profile_table,
)
from pytest_mlgates.errors import DataUnusable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMN_TYPES = {pa.string(): "string", pa.float64(): "double", pa.bool_(): "boolean"}
_LIST_TYPES = {pa.string(): "array<string>", pa.float64(): "array<double>"}
ROW = "_mlgates_row"
SCORE = "_mlgates_score"


def start_session(remote: str | None = None) -> Any:
    """Return a Spark session: ``remote`` (``sc://host:port``) or ``SPARK_REMOTE``, else `pysail` in this process.

    Raises
    ------
    ImportError
        Neither pyspark nor pysail is installed.
    """
    import os

    from pyspark.sql import SparkSession

    address = remote or os.environ.get("SPARK_REMOTE")
    if address is None:
        from pysail.spark import SparkConnectServer

        server = SparkConnectServer("127.0.0.1", 0)
        server.start()
        _, port = server.listening_address
        address = f"sc://127.0.0.1:{port}"
        session = SparkSession.builder.remote(address).getOrCreate()
        session._mlgates_server = server  # the engine lives as long as its session
        return session
    return SparkSession.builder.remote(address).getOrCreate()


class SparkEngine:
    """Profiles a Spark DataFrame, a Parquet path, or a Delta path or table.

    Parameters
    ----------
    session
        A Spark session, of Connect or not.
    """

    def __init__(self, session: Any) -> None:
        self.session = session

    def frame(self, rows: Any) -> Any:
        """Return rows as a Spark DataFrame. Raises DataUnusable for what Spark cannot read here."""
        if hasattr(rows, "mapInArrow"):
            return rows
        if isinstance(rows, pa.Table):
            return self.session.createDataFrame(rows.to_pandas())
        text = str(rows)
        if text.endswith(".parquet"):
            return self.session.read.parquet(text)
        if "/" in text:
            return self.session.read.format("delta").load(text)
        raise DataUnusable(f"Spark cannot read {type(rows).__name__}; give a DataFrame, a .parquet path or a Delta path")

    def profile(self, rows: Any, columns: Sequence[str] | None = None, edges: Mapping[str, Any] | None = None) -> Profile:
        """Profile rows at ``edges``; without them a sample is taken first to choose them."""
        frame = self.frame(rows)
        schema = arrow_schema(frame)
        kinds = {c: kind_of(schema.field(c).type) for c in schema.names if columns is None or c in columns}
        known = None if edges is None else set(edges)
        usable = [c for c, k in kinds.items() if k is not Kind.OTHER and (known is None or not k.numeric or c in known)]
        chosen = self._edges(frame, usable, kinds) if edges is None else edges
        wanted = {c: np.asarray(e, dtype=float) for c, e in chosen.items() if c in usable}

        def kernel(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            found = build_profile(batches, schema, usable, wanted)
            yield from profile_table(found).to_batches()

        parts = frame.select(*usable).mapInArrow(kernel, profile_ddl()).toArrow()
        found = profile_from_table(parts.cast(PROFILE_SCHEMA))
        return Profile(found.rows, kinds, {c: found.columns[c] for c in usable})

    def _edges(self, frame: Any, columns: Sequence[str], kinds: Mapping[str, Kind]) -> dict[str, NDArray[np.float64]]:
        numeric = [c for c in columns if kinds[c].numeric]
        if not numeric:
            return {}
        rows = frame.count()
        some = frame.select(*numeric)
        if rows > SAMPLE_ROWS:
            some = some.sample(fraction=min(1.0, SAMPLE_ROWS / rows), seed=7)
        return edges_of(some.toArrow(), numeric)


def arrow_schema(frame: Any) -> pa.Schema:
    """Return the Arrow schema of a Spark DataFrame."""
    schema: pa.Schema = frame.limit(0).toArrow().schema
    return schema


def profile_ddl() -> str:
    """Return the schema of a profile's rows as Spark writes it."""
    parts = []
    for field in PROFILE_SCHEMA:
        kind = _LIST_TYPES[field.type.value_type] if pa.types.is_list(field.type) else _COLUMN_TYPES[field.type]
        parts.append(f"`{field.name}` {kind}")
    return ", ".join(parts)


def spark_predict(session: Any, tracking_uri: str, model_uri: str) -> Callable[[pa.Table], NDArray[np.float64]]:
    """Return a function that scores rows with ``mlflow.pyfunc.spark_udf``, in their order.

    Parameters
    ----------
    tracking_uri, model_uri
        Where the registry is; ``models:/NAME/VERSION`` as it was resolved for this run.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    udf = mlflow.pyfunc.spark_udf(session, model_uri, result_type="double", env_manager="local")

    def predict(rows: pa.Table) -> NDArray[np.float64]:
        from pyspark.sql import functions

        numbered = rows.append_column(ROW, pa.array(np.arange(rows.num_rows)))
        frame = session.createDataFrame(numbered.to_pandas())
        scored = frame.select(ROW, udf(functions.struct(*rows.column_names)).alias(SCORE)).toArrow()
        order = np.argsort(scored.column(ROW).combine_chunks().to_numpy(zero_copy_only=False))
        return np.asarray(scored.column(SCORE).combine_chunks().to_numpy(zero_copy_only=False)[order], dtype=float)

    return predict
