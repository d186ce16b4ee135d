"""What all tests share."""

import os

import pytest

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items):
    """Long tests first, so that no worker ends alone; proofs at full size only under `make prove`."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if os.environ.get("MLGATES_PROVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a proof at full size: make prove"))
