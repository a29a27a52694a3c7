"""What workers say to each other: teams in threads of one process, on loopback."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tfdet.cluster import Cluster, Team, meeting, team
from tfdet.cluster.wire import Message, Wire
from tfdet.errors import UserError, WorkerLostError


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def clusters(count):
    addresses = tuple(f"127.0.0.1:{index + 1}" for index in range(count))
    port = free_port()
    return [Cluster({"worker": addresses}, "worker", index, port) for index in range(count)]


class Teams:
    """Calls the same on every worker, each in its thread."""

    def __init__(self, count):
        self.pool = ThreadPoolExecutor(count)
        made = [self.pool.submit(Team, cluster, lambda text: None, 20.0) for cluster in clusters(count)]
        self.members = [future.result() for future in made]

    def __call__(self, call, only=None):
        futures = [self.pool.submit(call, member) for member in (self.members if only is None else only)]
        return [future.exception() or future.result() for future in futures]


@pytest.fixture
def teams():
    made = []

    def make(count):
        made.append(Teams(count))
        return made[-1]

    yield make
    for group in made:
        for member in group.members:
            member.close()
        group.pool.shutdown()


def test_values_arrays_and_errors_of_worker_0_are_those_of_all(teams):
    three = teams(3)
    assert (
        three(lambda worker: worker.of_chief("a", lambda: {"step": 3, "worker": worker.number}))
        == [{"step": 3, "worker": 0}] * 3
    )
    arrays = {"x": np.float32([[1, -0.0]]), "n": np.int64(7), "none": np.zeros([0, 4], np.float32)}
    for found in three(lambda worker: worker.arrays_of_chief("state", lambda: arrays)):
        assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.items()} == {
            name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()
        }
    assert three(lambda worker: list(worker.gather("b", worker.number * 10)))[0] == [0, 10, 20]

    def refuse():
        raise UserError("the disk is full")

    assert [str(error) for error in three(lambda worker: worker.of_chief("c", refuse))] == ["the disk is full"] * 3
    assert [member.lost for member in three.members] == [None] * 3


def test_a_worker_with_another_value_is_named_on_all(teams):
    rates = ["0.02", "0.02", "0.01"]
    errors = teams(3)(lambda worker: worker.agree("values", {"seed": "0", "Schedule.base_lr": rates[worker.number]}))
    for error in errors:
        assert isinstance(error, UserError)
        assert "worker 2 (127.0.0.1:3)" in str(error) and "Schedule.base_lr: 0.01 there and 0.02 on worker 0" in str(
            error
        )


@pytest.mark.parametrize("other", ["code", "cluster", "twice"])
def test_who_does_not_fit_is_refused_before_anything_begins(monkeypatch, other):
    first, second = clusters(2)
    if other == "code":
        facts = iter([{"tfdet": "1 (aaaa)"}, {"tfdet": "1 (bbbb)"}])
        monkeypatch.setattr(team, "code_facts", lambda: next(facts))
    elif other == "cluster":
        second = Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:5")}, "worker", 1, first.control_port)
    else:
        second = Cluster(first.jobs, "worker", 0, first.control_port)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(Team, cluster, lambda text: None, 0.5) for cluster in (first, second)]
        errors = [str(future.exception()) for future in futures]
    if other == "twice":
        assert any("cannot listen on port" in error for error in errors)
        return
    what = "tfdet: 1 (" if other == "code" else "the workers: 127.0.0.1:1, 127.0.0.1:5 there"
    assert all("worker 1 (127.0.0.1:2) cannot take part" in error and what in error for error in errors)


def test_who_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(meeting, "_TOLD_EVERY", 0.1)
    cluster, told = clusters(3)[0], []
    with pytest.raises(UserError, match=r"waited 1 s for worker 1 \(127.0.0.1:2\), worker 2 \(127.0.0.1:3\)"):
        Team(cluster, told.append, timeout=1.0)
    assert told[0].startswith("waiting for worker 1")


def test_a_probe_of_the_port_is_no_worker(teams):
    first, second = clusters(2)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(Team, first, lambda text: None, 20.0)
        for content in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", first.control_port)) as probe:
                        probe.sendall(content)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
        other = pool.submit(Team, second, lambda text: None, 20.0).result()
        waiting.result().close()
        other.close()


@pytest.mark.parametrize("asked", [0, 2])
def test_all_stop_after_the_same_step(teams, asked):
    three = teams(3)
    barrier = threading.Barrier(3)  # the collective of a step
    done = [0, 0, 0]

    def work(worker):
        while worker.may_begin(done[worker.number] + 1):
            if worker.number == asked and done[asked] == 5:
                worker.ask_to_stop("SIGTERM")
            barrier.wait(10)
            done[worker.number] += 1
            time.sleep(0.02 * worker.number)  # some are ahead

    assert three(work) == [None] * 3
    assert len(set(done)) == 1 and done[0] > 5
    assert [member.gate.reason for member in three.members] == ["SIGTERM"] * 3


@pytest.mark.parametrize("fault", ["dies", "fails", "stands still"])
@pytest.mark.parametrize("who", [0, 1])
def test_the_others_learn_which_worker_is_lost(teams, monkeypatch, fault, who):
    three = teams(3)
    for member in three.members:
        member.worker_timeout = 1.0
    victim = three.members[who]
    rest = [member for member in three.members if member is not victim]
    waiting = [three.pool.submit(member.gate.begin, 1, member.check) for member in rest]
    [future.result() for future in waiting]  # nothing is wrong yet
    begin = time.monotonic()
    if fault == "fails":
        victim.fail("no space left")
    elif fault == "dies":
        victim._closing = True
        for wire in victim._wires.values():
            wire.close()
    else:
        victim._closing = True  # says nothing any more, and its connections stay
    errors = three(lambda worker: worker._wait_for(1 - min(worker.number, 1), "never"), only=rest)
    assert time.monotonic() - begin < 3.0
    said = {"fails": "ended: no space left", "dies": "ended without a word", "stands still": "has not answered for"}
    for error in errors:
        assert isinstance(error, WorkerLostError)
        assert f"worker {who} (127.0.0.1:{who + 1})" in str(error) and said[fault] in str(error)


def test_what_is_no_message_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs = server.accept()[0]
    wire, other = Wire(ours), Wire(theirs)
    other.send(Message("a", "b", [1, float("nan")], {"x": np.arange(3)}))
    message = wire.receive()
    assert message.key == "b" and message.arrays["x"].tolist() == [0, 1, 2]
    theirs.sendall((1 << 40).to_bytes(8, "big"))
    with pytest.raises(ValueError, match="a message of"):
        wire.receive()
    other.close()
    with pytest.raises(ConnectionError):
        wire.receive()
    wire.close()
