"""Python's garbage collector, kept from looking through what large imports make."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_USUAL = gc.get_threshold()


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage rarely while large libraries are imported, or for a command that soon ends.

    What an import makes stays, and looking through it time and again was a quarter of the import's CPU time.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def usual_collections() -> None:
    """Collect as often as this Python does by itself: what goes on for long must not gather garbage."""
    gc.set_threshold(*_USUAL)
