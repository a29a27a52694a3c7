"""One process trains in a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfdet.errors import UserError
from tfdet.training import run_lock
from tfdet.training.run_lock import Owner, RunLock

HERE = Owner.this_process()


def lock(folder):
    return RunLock(folder / "run.lock")


def left_by(folder, **owner):
    """A lock file that nobody holds, as a killed process leaves it."""
    folder.mkdir(exist_ok=True)
    (folder / "run.lock").write_text(HERE._replace(**owner).json())


def test_a_second_one_is_refused_until_the_first_is_done(tmp_path):
    first, second = lock(tmp_path), lock(tmp_path)
    first.acquire()
    content = json.loads((tmp_path / "run.lock").read_text())
    assert (content["host"], content["pid"]) == (HERE.host, os.getpid()) and content["since"].startswith("20")
    with pytest.raises(UserError, match=f"trained by process {os.getpid()} on {HERE.host} since 20.*: wait for it"):
        second.acquire()
    assert first.renew()
    first.release()
    second.acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_it_made_and_nobody_used_go_with_it(tmp_path):
    first = lock(tmp_path / "a/b")
    first.acquire()
    first.release()
    assert not (tmp_path / "a").exists()
    first.acquire()
    (tmp_path / "a/file").touch()
    first.release()
    assert (tmp_path / "a/file").exists() and not (tmp_path / "a/b").exists()


def test_of_a_process_that_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        start = run_lock._process_start(process.pid)
        left_by(tmp_path, pid=process.pid, process_start=start)
        # A disk without locks of the system: what the file says decides.
        with pytest.raises(UserError, match=f"trained by process {process.pid} on"):
            lock(tmp_path).acquire()
        left_by(tmp_path, pid=process.pid, process_start="another start")  # the number is in use again
        taken = lock(tmp_path)
        taken.acquire()
        taken.release()
    finally:
        process.communicate(b"\n")
    left_by(tmp_path, pid=process.pid, process_start=start)
    taken.acquire()
    taken.release()


@pytest.mark.parametrize("text", ["", "half {"])
def test_a_file_that_says_nothing_is_nobodys(tmp_path, text):
    (tmp_path / "run.lock").write_text(text)
    taken = lock(tmp_path)
    taken.acquire()
    assert Owner.parse((tmp_path / "run.lock").read_text()).pid == os.getpid()
    taken.release()


@pytest.mark.parametrize("pid", [0, -1, -os.getpgrp()])
def test_a_number_that_no_process_has_is_nobodys(tmp_path, pid):
    left_by(tmp_path, pid=pid, process_start="")
    taken = lock(tmp_path)
    taken.acquire()
    assert taken.owner().pid == os.getpid()
    taken.release()


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_another_ones_file_behind_a_link_stays_as_it_is(tmp_path, make):
    (tmp_path / "thesis").write_text("text")
    make(tmp_path / "run.lock", tmp_path / "thesis")
    with pytest.raises(UserError, match="run.lock is .*: move it away, or choose another --model_dir$"):
        lock(tmp_path).acquire()
    assert (tmp_path / "thesis").read_text() == "text" and os.path.lexists(tmp_path / "run.lock")


def test_a_link_to_nowhere_and_a_pipe_are_no_locks(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.lock").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "run.lock")
    for folder in (tmp_path, tmp_path / "a"):
        with pytest.raises(UserError, match="run.lock is"):
            lock(folder).acquire()
        assert lock(folder).owner() is None and os.path.lexists(folder / "run.lock")
    assert not (tmp_path / "nowhere").exists()


def test_of_another_machine_it_says_how_to_break_it(tmp_path):
    left_by(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(UserError, match=r"process 1 on elsewhere since .* if it does not, remove .*/run.lock$"):
        lock(tmp_path).acquire()
    assert (tmp_path / "run.lock").exists()


def test_a_folder_that_went_away_is_locked_again_and_another_ones_is_not_touched(tmp_path):
    first = lock(tmp_path / "run")
    first.acquire()
    (tmp_path / "run/run.lock").unlink()
    (tmp_path / "run").rmdir()
    assert not first.renew() and first.renew()
    (tmp_path / "run/run.lock").unlink()
    other = lock(tmp_path / "run")
    other.acquire()
    with pytest.raises(UserError, match="is being trained by"):
        first.renew()
    first.release()
    assert other.renew()
    other.release()


def test_of_two_that_start_at_the_same_moment_one_gets_it(tmp_path):
    program = (
        "import sys; from pathlib import Path; from tfdet.training.run_lock import RunLock; from tfdet.errors import "
        "UserError\nlock = RunLock(Path(sys.argv[1]) / 'run.lock'); input()\n"
        "try:\n    lock.acquire(); print('got', flush=True); input()\n"
        "except UserError:\n    print('refused', flush=True)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.stdout.readline().strip() for process in processes)
    for process in processes:
        process.communicate("\n")
    assert said == ["got", "refused", "refused", "refused"]


def test_a_note_that_is_nested_without_end_is_no_owner():
    assert Owner.parse("[" * 100_000) is None
