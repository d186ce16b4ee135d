"""Progress of long work, on a terminal only: one line on standard error that is drawn over and wiped at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from pytest_mlgates.report.text import clipped

T = TypeVar("T")
_AFTER_S = 0.5
"""Work that is done sooner shows nothing."""
_EVERY_S = 0.2
_BAR = 24
_DUMB = ("", "dumb")


class _Line:
    """The line: drawn by a thread of its own, so that seconds go on while the work does not report."""

    def __init__(self, label: str, total: int | None, stream: TextIO) -> None:
        self.done = 0
        self._label, self._total, self._stream = label, total, stream
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def _draw(self) -> None:
        pause = _AFTER_S
        while not self._stop.wait(pause):
            pause = _EVERY_S
            room = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{clipped(self._words(), room)}")
            self._stream.flush()

    def _words(self) -> str:
        took = time.monotonic() - self._begin
        seconds = f"{took:.0f} s" if took < 120 else f"{took / 60:.0f} min"
        if not self._total:
            return f"{self._label} … {seconds}"
        full = _BAR * self.done // self._total
        return f"[{'#' * full}{'.' * (_BAR - full)}] {self.done}/{self._total}  {self._label}  {seconds}"

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if time.monotonic() - self._begin > _AFTER_S:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _terminal() -> TextIO | None:
    """Standard error past our sink, where both it and standard output are a terminal that can be drawn over."""
    stream = sys.__stderr__
    if stream is None or not (stream.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "") in _DUMB:
        return None
    return stream


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Say what is worked at and for how long, while the block runs; the block prints nothing itself."""
    stream = _terminal()
    line = _Line(label, None, stream) if stream is not None else None
    try:
        yield
    finally:
        if line is not None:
            line.close()


def over(items: Sequence[T] | Iterable[T], label: str) -> Iterator[T]:
    """Iterate, with a bar of how many are done; what is printed in between comes after the loop's own line is wiped."""
    known = list(items)
    stream = _terminal()
    line = _Line(label, len(known), stream) if stream is not None else None
    try:
        for item in known:
            yield item
            if line is not None:
                line.done += 1
    finally:
        if line is not None:
            line.close()
