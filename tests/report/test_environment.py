"""`tfdet doctor`: everything is reported, and what is wrong is said."""

import pytest

from tfdet.commands import main
from tfdet.report import environment


@pytest.fixture(autouse=True)
def wide_console(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_every_subject_is_there():
    subjects = [finding.subject for finding in environment.findings()]
    for subject in ("Python", "tensorflow", "keras", "CPU", "ops", "precision", "memory", "TensorFlow's build"):
        assert subject in subjects
    assert len(subjects) == len(set(subjects))


def test_a_missing_package_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "no-such-package" in printed and "not installed" in printed and "1 to put right" in printed


def test_nothing_wrong_here(capsys):
    assert main(["doctor"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_custom_ops_that_are_demanded_and_missing_are_a_problem(monkeypatch, tmp_path):
    from tfdet.ops import native

    monkeypatch.setenv("TFDET_OPS", "native")
    monkeypatch.setenv("TFDET_OPS_LIBRARY", str(tmp_path / "absent.so"))
    monkeypatch.setattr(native, "state", native.state.__wrapped__)
    finding = next(f for f in environment.findings() if f.subject == "ops")
    assert "absent.so not found" in finding.problem


def test_another_version_of_tensorflow_is_a_problem(monkeypatch):
    real = environment.metadata.version
    monkeypatch.setattr(environment.metadata, "version", lambda name: "2.99.0" if name == "tensorflow" else real(name))
    finding = next(f for f in environment.findings() if f.subject == "tensorflow")
    assert "made for 2.20." in finding.problem
