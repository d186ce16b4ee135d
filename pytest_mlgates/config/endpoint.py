"""The section of a model's endpoint: what it takes, what it must keep, what its log must not show."""

from __future__ import annotations

from pytest_mlgates.config.base import Count, Positive, Section, Texts


class Endpoint(Section):
    """How a model is served; read when its server starts, and by the load test that runs as a gate."""

    p99_max_ms: Positive = 200.0
    """Objective of the load-test gate: at most 1 % of the calls may take longer."""
    concurrency: Count = 8
    """Calls in flight at once in the load-test gate."""
    max_rows: Count = 10_000
    """Rows of one request; more are refused with 413."""
    max_body_bytes: Count = 4_194_304
    """Bytes of one request's body; more are refused with 413."""
    hash_columns: Texts = ()
    """Input columns with personal data: in the prediction log a salted hash stands for their values (salt: ``MLGATES_LOG_SALT``)."""
