"""Progress is drawn on a terminal, wiped at the end, and nowhere else."""

import os
import pty
import subprocess
import sys

PROGRAM = """
import time
from pytest_mlgates import progress
for _ in progress.over(range(4), "counting \\x1b[31m"):
    time.sleep(0.3)
with progress.waiting("thinking"):
    time.sleep(0.9)
print("done")
"""


def test_a_bar_on_a_terminal():
    """How many of how many, what, and for how long; the last thing that is drawn wipes it."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "70"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        process.wait(60)
    os.close(ours)
    text = said.decode()
    assert "/4  counting ?[31m" in text
    assert "thinking … 1 s" in text or "thinking … 0 s" in text
    assert max(len(part) for part in text.replace("\x1b[K", "").split("\r")) <= 70
    assert text.rstrip().endswith("\r\x1b[Kdone")


def test_nothing_where_no_terminal_is():
    """A file, a pipe, a dumb terminal: the output is the program's alone."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
