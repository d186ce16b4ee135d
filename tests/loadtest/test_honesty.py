"""The load test tells the truth: against servers whose behaviour is known."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from pytest_mlgates import load
from pytest_mlgates.errors import EndpointError
from pytest_mlgates.results import Verdict
from pytest_mlgates.services import load_drive, load_run

FULL = os.environ.get("MLGATES_PROVE") == "1"


@contextmanager
def known(mode: str):
    """A server of known behaviour; yields its address."""
    command = [sys.executable, str(Path(__file__).with_name("known_server.py")), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/score"
        finally:
            process.kill()


def test_an_open_loop_sees_a_stall_that_a_closed_loop_hides():
    """1 s of every 10 s nothing is answered: one call in ten meets it, waiting 0 to 1 s, so the true p99 is 900 ms."""
    duration_s = 60 if FULL else 10
    for _ in range(3):  # a machine that stalls itself beside the server's stall makes the true value another one
        with known("stall:1:10") as uri:
            opened = load_run.run(uri, n=100 * duration_s, rate_per_s=100, objective_ms=200)
            closed = load_run.run(uri, n=4000 if FULL else 2000, concurrency=2, objective_ms=200)
        p99, hidden = opened.quantiles["p99"].value, closed.quantiles["p99"].value
        if p99 == pytest.approx(900, rel=0.05):
            break
    print(f"\ntrue p99 900 ms; open loop {p99:.0f} ms; closed loop {hidden:.1f} ms")
    assert p99 == pytest.approx(900, rel=0.05)
    assert opened.tail.share == pytest.approx(0.08, abs=0.01)  # waits over 200 ms: 0.8 s of each 10 s
    assert opened.verdict is not Verdict.PASS  # a single stall is one event: it need not be enough to fail
    assert hidden < 450


def test_a_constant_service_time_is_reported_within_a_millisecond():
    gaps, most = (
        [],
        1.0 if FULL else 2.0,
    )  # beside other tests on the same cores a call costs the generator itself up to a millisecond
    for _ in range(3):  # both processes share the machine with others: the wait for a core is not the generator's error
        with known("constant:20") as uri:
            summary = load_run.run(uri, n=1000 if FULL else 200, concurrency=2)
            truth = httpx.get(uri.replace("/score", "/truth")).json()["p50_ms"]
        gaps.append(summary.quantiles["p50"].value - truth)
        if abs(gaps[-1]) <= most:
            break
    print(f"\nreported p50 {summary.quantiles['p50'].value:.2f} ms, the server's own {truth:.2f} ms")
    assert min(map(abs, gaps)) <= most
    assert summary.errors == 0


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("nan", "not_finite"),
        ("version", "wrong_version"),
        ("html", "not_json"),
        ("rows", "rows"),
        ("status", "status_503"),
        ("schema", "schema"),
    ],
)
def test_a_wrong_answer_is_an_error_of_its_kind(mode, kind):
    with known(mode) as uri:
        summary = load_run.run(uri, n=40, concurrency=4, warmup=0)
    assert summary.error_kinds == {kind: 40}
    assert summary.verdict is Verdict.FAIL


def test_exactly_n_calls_are_counted_and_warm_up_is_apart():
    with known("constant:1") as uri:
        summary = load_run.run(uri, n=103, concurrency=4, processes=2, warmup=20)
        served = httpx.get(uri.replace("/score", "/truth")).json()["calls"]
    assert summary.n == 103
    assert served == 103 + 20
    assert summary.generator.processes == 2


def test_a_call_without_an_answer_is_a_timeout_not_a_wait_for_ever():
    with known("hang") as uri:
        summary = load_run.run(uri, n=4, concurrency=2, timeout_s=0.5, warmup=0)
    assert summary.error_kinds == {"timeout": 4}


def test_an_answer_that_trickles_in_is_a_timeout_too():
    with known("trickle") as uri:
        summary = load_run.run(uri, n=4, rate_per_s=20, timeout_s=0.5, warmup=0)
    assert summary.error_kinds == {"timeout": 4}


def test_an_answer_that_ends_with_its_connection_is_whole():
    with known("old") as uri:
        summary = load_run.run(uri, n=40, concurrency=2)
    assert summary.errors == 0


def test_a_server_with_no_pages_is_sent_the_tutorials_row_and_the_result_says_so():
    with known("bare") as uri:
        summary = load_run.run(uri, n=20, concurrency=2)
    assert summary.errors == 0
    assert "no /schema" in summary.rows
    assert summary.rows in load.table(summary)


@pytest.mark.parametrize(("limit_ms", "code"), [pytest.param(2000, 0, marks=pytest.mark.prove), (5, 1)])
def test_the_gate_judges_by_the_settings_of_the_served_model(tmp_path, limit_ms, code):
    (tmp_path / "mlgates.toml").write_text(
        '[models."known"]\ntask = "regression"\ntarget = "y"\nholdout = "h.parquet"\n'
        f'[models."known".endpoint]\np99_max_ms = {limit_ms}\nconcurrency = 16\n'
    )
    with known("constant:8") as uri:
        command = [sys.executable, "-m", "pytest", "--mlgates-endpoint-uri", uri, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout


def test_an_endpoint_that_is_not_there_is_one_clear_error():
    with pytest.raises(EndpointError, match="did not answer"):
        load_run.run("http://127.0.0.1:9/score", n=1)


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


CLI = [sys.executable, "-c", "import sys; from pytest_mlgates.cli import main; sys.exit(main())", "loadtest"]


@pytest.mark.parametrize(
    "loop",
    [
        ["--n", "101", "--rate", "200"],
        pytest.param(["--n", "101", "--concurrency", "4"], marks=pytest.mark.prove),
        pytest.param(["--rate", "50", "--duration", "2.02"], marks=pytest.mark.prove),
    ],
)
def test_a_master_drives_with_workers_that_connect_to_it(loop, tmp_path):
    """Two workers, as on other machines: they know the master's address and nothing else."""
    address, found = free_address(), tmp_path / "load.json"
    with known("constant:1") as uri, ExitStack() as stack:
        workers = [stack.enter_context(subprocess.Popen([*CLI, "--worker", address])) for _ in range(2)]
        try:
            command = [*CLI, "--uri", uri, *loop, "--warmup", "8", "--master", address, "--workers", "2", "--json", str(found)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            served = httpx.get(uri.replace("/score", "/truth")).json()["calls"]
            codes = [worker.wait(timeout=20) for worker in workers]  # they end with the master
        finally:
            for worker in workers:
                worker.terminate()
    assert found.exists(), done.stdout + done.stderr
    result = json.loads(found.read_text())
    assert (result["n"], result["errors"], served) == (101, 0, 101 + 8)
    assert result["generator"]["processes"] == 2
    assert "p99" in done.stdout
    assert codes == [0, 0]


def test_two_lengths_of_one_open_loop_are_refused():
    words = ["--n", "10", "--rate", "5", "--duration", "2"]
    done = subprocess.run([*CLI, "--uri", "http://127.0.0.1:9/score", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "give one of them" in done.stderr


@pytest.mark.parametrize("words", [["--master", "127.0.0.1"], ["--workers", "2"]])
def test_master_and_workers_belong_together(words):
    done = subprocess.run([*CLI, "--uri", "http://127.0.0.1:9/score", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "--master HOST[:PORT] and --workers N belong together" in done.stderr


def test_a_master_whose_workers_do_not_come_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(load_drive, "WORKERS_WAIT_S", 1)
    with known("constant:1") as uri, pytest.raises(EndpointError, match="workers"):
        load_run.run(uri, n=10, concurrency=2, processes=2, master="127.0.0.1:0")
