"""Several processes that train together, on loopback: the numbers of one process, and how they end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_run import all_tensors, run

from tfdet.cluster import Cluster, Team
from tfdet.errors import EXIT_INTERRUPTED, EXIT_WORKER_LOST, UserError
from tfdet.training import teamwork

PROGRAM = Path(__file__).with_name("run_worker.py")
TIMEOUT = 200


def free_ports(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


class Processes:
    """The workers of a run, each with its output in a file."""

    def __init__(self, folder, count, options, other=None):
        *ports, control = free_ports(count + 1)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self.outputs, self.processes = [], []
        for number in range(count):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
            variables = os.environ | {"TF_CONFIG": json.dumps(task), "TFDET_CONTROL_PORT": str(control)}
            self.outputs.append(folder / f"worker{number}.txt")
            own = json.dumps(options | (other or {}).get(number, {}))
            with open(self.outputs[-1], "w") as output:
                command = [sys.executable, "-u", PROGRAM, own]
                self.processes.append(subprocess.Popen(command, env=variables, stdout=output, stderr=output))

    def text(self, number=0):
        return self.outputs[number].read_text()

    def wait_for(self, text):
        end = time.monotonic() + TIMEOUT
        while text not in self.text():
            assert time.monotonic() < end and None in [process.poll() for process in self.processes], self.text()
            time.sleep(0.02)

    def codes(self, left_out=()):
        kept = [process for number, process in enumerate(self.processes) if number not in left_out]
        try:
            return [process.wait(TIMEOUT) for process in kept]
        finally:
            for process in kept:
                process.kill()

    def losses(self):
        return {int(step): loss for step, loss in json.loads(self.text().splitlines()[-1])["losses"].items()}


def check_equal(folder, expected, tolerance=0.0):
    got = all_tensors(folder)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, bytes):
            assert got[name] == value
        else:
            np.testing.assert_allclose(got[name], value, rtol=0, atol=tolerance, err_msg=name)


def test_two_processes_are_two_replicas_to_the_bit(tmp_path):
    """With synchronised normalisation, a moving average and, at step 3, an overflow on one of them alone."""
    options = {"precision": "mixed_float16", "ema_decay": 0.9}
    # The image is of one replica's part of step 3.
    workers = Processes(tmp_path, 2, {"folder": str(tmp_path / "two"), "steps": 6, "poison": 9} | options)
    _, _, recorder = run(str(tmp_path / "one"), 6, replicas=2, poison=9, checkpoint_every=4, **options)
    assert workers.codes() == [0, 0], workers.text(0) + workers.text(1)
    np.testing.assert_equal(workers.losses(), recorder.losses())  # that of step 3 is no number
    check_equal(tmp_path / "two", all_tensors(tmp_path / "one"))
    assert [progress.skipped_steps for (progress,) in recorder.named("progressed")][-1] == 1
    assert "step 6/6" in workers.text(0) and "step" not in workers.text(1).replace('"step"', "")


@pytest.mark.slow
def test_accumulation_local_statistics_and_four_processes(tmp_path):
    options = {"steps": 20, "accumulate": 2, "norm": "local"}
    workers = Processes(tmp_path, 2, {"folder": str(tmp_path / "two")} | options)
    assert workers.codes() == [0, 0], workers.text(0) + workers.text(1)
    alone = Processes(tmp_path, 1, {"folder": str(tmp_path / "one"), "replicas": 2} | options)
    assert alone.codes() == [0] and alone.losses() == workers.losses()
    check_equal(tmp_path / "two", all_tensors(tmp_path / "one"))

    for ordered, tolerance in ((False, 1e-6), (True, 0.0)):
        four, replicas = tmp_path / f"four{ordered}", tmp_path / f"replicas{ordered}"
        workers = Processes(tmp_path, 4, {"folder": str(four), "steps": 20, "ordered_sums": ordered})
        assert workers.codes() == [0] * 4, workers.text(0)
        run(str(replicas), 20, replicas=4, checkpoint_every=4, ordered_sums=ordered)
        check_equal(four, all_tensors(replicas), tolerance)


@pytest.mark.slow
def test_not_a_number_on_one_worker_ends_all(tmp_path):
    workers = Processes(tmp_path, 2, {"folder": str(tmp_path / "run"), "steps": 6, "poison": 9})
    assert workers.codes() == [2, 2]
    for number in range(2):
        assert "Step 3: the loss is not finite" in workers.text(number)


MOMENTS = {
    "first trace": "model directory",
    "step": "step 6/",
    "checkpoint": "saved the checkpoint of step 8",
    "evaluation": "step 10/",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_one_of_four_is_stopped_killed_or_stands_still(tmp_path, moment, fault):
    """The others end, in time, with its name; the same command ends with the weights of a run that was left alone."""
    seed = len(moment) + fault
    victim = int(np.random.default_rng(seed).integers(4))
    options = {"folder": str(tmp_path / "run"), "steps": 16, "evaluate_every": 10, "evaluate": 1.5, "timeout": 4.0}
    workers = Processes(tmp_path, 4, options | {"delay": 0.05})
    workers.wait_for(MOMENTS[moment])
    begin = time.monotonic()
    workers.processes[victim].send_signal(fault)
    codes = workers.codes(left_out=[victim])
    took = time.monotonic() - begin
    text = "".join(workers.text(number) for number in range(4) if number != victim)
    if fault == signal.SIGTERM:
        assert codes == [EXIT_INTERRUPTED] * 3 and workers.codes() == [EXIT_INTERRUPTED] * 4, text
        last = re.search(rf"stopped by SIGTERM to worker {victim} at step (\d+)", workers.text())
        assert last and (int(last[1]) == 0 or (tmp_path / "run/checkpoints" / f"ckpt-{last[1]}.index").exists())
    else:
        said = "ended without a word" if fault == signal.SIGKILL else "has not answered for"
        assert codes == [EXIT_WORKER_LOST] * 3, text
        assert len(re.findall(rf"error: worker {victim} \(127.0.0.1:\d+\) {said}", text)) == 3, text
        assert took < 30.0  # `worker_timeout`, and a trace that cannot be interrupted
        workers.processes[victim].send_signal(signal.SIGKILL)
        workers.processes[victim].wait()

    again = Processes(tmp_path, 4, options | {"evaluate": 0.01})
    assert again.codes() == [0] * 4, again.text()
    whole = shutil.copytree(tmp_path, tmp_path / "before") and tmp_path / "whole"
    assert Processes(tmp_path, 4, options | {"evaluate": 0.01, "folder": str(whole)}).codes() == [0] * 4
    check_equal(tmp_path / "run", all_tensors(whole))
    evaluations = [json.loads((folder / "evaluations.json").read_text()) for folder in (tmp_path / "run", whole)]
    assert evaluations[0] == evaluations[1]


@pytest.mark.slow
def test_who_would_train_otherwise_is_named(tmp_path):
    workers = Processes(tmp_path, 2, {"folder": str(tmp_path / "run"), "steps": 6}, other={1: {"steps": 7}})
    assert workers.codes() == [2, 2]
    for number in range(2):
        assert re.search(r"error: worker 1 \(.*\) cannot take part: steps: 7 there and 6 on", workers.text(number))


def test_an_error_of_all_is_no_loss_of_whoever_ended_first(monkeypatch):
    monkeypatch.setattr(teamwork, "abort_collectives", lambda text: None)
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    (control,) = free_ports(1)

    def refuse():
        raise UserError("worker 1 cannot take part")

    def work(number):
        team = Team(Cluster({"worker": addresses}, "worker", number, control), lambda text: None, 20.0)
        with teamwork.ending_together(team):
            end = time.monotonic() + 20
            while number and team.lost is None:  # the other has already ended
                assert time.monotonic() < end
                time.sleep(0.01)
            team.of_chief("configuration", refuse)

    with ThreadPoolExecutor(2) as pool:
        errors = [future.exception() for future in [pool.submit(work, number) for number in range(2)]]
    assert [(type(error), str(error)) for error in errors] == [(UserError, "worker 1 cannot take part")] * 2


@pytest.mark.slow
def test_only_worker_0_needs_the_folder_of_the_run(tmp_path):
    """Each machine has its own; the second is started anew in an empty one, and later with the newer checkpoint."""
    own = {number: {"folder": str(tmp_path / f"machine{number}")} for number in range(2)}
    options = {"folder": "", "checkpoint_every": 4}
    assert Processes(tmp_path, 2, options | {"steps": 6}, own).codes() == [0, 0]
    assert not (tmp_path / "machine1").exists()
    assert Processes(tmp_path, 2, options | {"steps": 10}, own).codes() == [0, 0]
    assert Processes(tmp_path, 2, {"folder": str(tmp_path / "shared"), "steps": 10}).codes() == [0, 0]
    swapped = {0: own[1], 1: own[0]}
    workers = Processes(tmp_path, 2, options | {"steps": 12}, swapped)
    assert workers.codes() == [2, 2] and "of worker 1 has a checkpoint of step 10" in workers.text()
