"""Signals: what is half done is put away first."""

import os
import signal

import pytest

from tfdet.commands import main
from tfdet.interrupts import Terminated, terminated_by_exception, whole


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored():
    """A shell starts what it runs in the background with SIGINT ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def test_the_first_one_raises_and_the_others_do_not_disturb_what_follows():
    done, handler = [], signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as error, terminated_by_exception():
        try:
            kill()
            done.append("went on")
        finally:
            kill()
            kill(signal.SIGHUP)
            done.append("cleaned")
    assert done == ["cleaned"] and error.value.number == signal.SIGTERM and str(error.value) == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("number, raised", [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_short_work_is_done_whole_and_the_signal_comes_after(number, raised):
    done = []
    with pytest.raises(raised), terminated_by_exception():
        with whole():
            kill(number)
            done.append("first")
            kill(number)
            done.append("second")
        done.append("went on")
    assert done == ["first", "second"]
    with pytest.raises(raised), terminated_by_exception(), whole():
        kill(number)
        raise OSError("the work failed")


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminated_by_exception(), whole():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            kill(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_command_ends_with_the_code_of_its_signal(tmp_path, monkeypatch, capsys, number, code):
    """In the middle of writing records: nothing of the data set is left, and nothing beside it."""
    from tfdet.data import writer

    add = writer.DatasetWriter.add

    def stopped(self, record):
        add(self, record)
        kill(number)

    monkeypatch.setattr(writer.DatasetWriter, "add", stopped)
    if signal.getsignal(number) == signal.SIG_IGN:  # as under nohup, where it would stay ignored
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sizes = ["--train_images=3", "--val_images=1", "--size=64x80"]
    assert main(["make_shapes", f"--output={tmp_path}/data", *sizes]) == code
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [] == list((tmp_path / "data").iterdir())
    assert ("stopped by SIG" in capsys.readouterr().err) == (number != signal.SIGINT)


def test_an_export_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    from tfdet.data.resize import Resize
    from tfdet.export import saved_model

    def stopped(module, folder, signatures):
        os.makedirs(folder, exist_ok=True)
        kill()

    class Detector:
        masks = None

    monkeypatch.setattr(saved_model.tf.saved_model, "save", stopped)
    with pytest.raises(Terminated), terminated_by_exception():
        saved_model.export(Detector(), tmp_path / "out", Resize(8, 8, "simpledet"), ["a"], [1])
    assert list(tmp_path.iterdir()) == []
