"""What all tests share."""

import os

import pytest

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items):
    """Proofs that repeat at full size what the default suite tries once run under `make prove` only."""
    if os.environ.get("MLGATES_PROVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a proof at full size: make prove"))
