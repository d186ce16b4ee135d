"""Gate 4 on a busy machine: time spent waiting for a CPU is not the model's, time spent in the model is."""

from pytest_mlgates import checks


class Machine:
    """A machine whose clock and run-queue wait are told: each call works, then every tenth waits for a CPU."""

    def __init__(self, work_s, wait_s):
        self.work_s, self.wait_s = work_s, wait_s
        self.now = self.waited = 0.0

    def call(self, index):
        waits = self.wait_s if index % 10 == 0 else 0.0
        self.now += self.work_s + waits
        self.waited += waits


def judged(machine, **more):
    return checks.measure_latency(machine.call, p99_max=0.2, clock=lambda: machine.now, budget_s=1e9, **more)


def test_waiting_for_a_cpu_is_left_out_and_said():
    machine = Machine(work_s=0.01, wait_s=0.5)
    result = judged(machine, cpu_wait=lambda: machine.waited)
    assert result.verdict == "pass"
    assert abs(result.details["conditions"]["cpu_wait_s"] - 0.5 * 100) < 1e-6
    assert "waiting for a CPU" in result.summary


def test_the_same_time_spent_in_the_model_fails():
    machine = Machine(work_s=0.01, wait_s=0.5)
    result = judged(machine, cpu_wait=lambda: 0.0)
    assert result.verdict == "fail"
    assert "waiting" not in result.summary


def test_a_slow_model_fails_however_busy_the_machine_is():
    machine = Machine(work_s=0.3, wait_s=0.5)
    assert judged(machine, cpu_wait=lambda: machine.waited).verdict == "fail"
