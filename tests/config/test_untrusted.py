"""Configurations of strangers: what the file of a run may import, include and refer to, and files that are bombs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import gin
import pytest

import tests.config.parts  # noqa: F401 - registers Car
from tfdet import config
from tfdet.config import untrusted
from tfdet.errors import UserError


@pytest.fixture
def run(tmp_path):
    """`run(text, **others)`: the path of the config.gin of a run with other files beside it."""

    def write(text, **others):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        for name, content in {"config.gin": text, **others}.items():
            (folder / name).write_text(content)
        return str(folder / "config.gin")

    return write


TRAP = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"


@pytest.mark.parametrize("statement", ["import trap", "from trap import x", "import trap.x as y", "import tfdet.trap"])
def test_a_module_beside_a_run_is_not_imported(run, refused, monkeypatch, statement):
    file = run(f"Car.doors = 2\n{statement}\n", **{"trap.py": TRAP, "tfdet.py": TRAP})
    folder = file.removesuffix("/config.gin")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    message = refused(files=[file])
    assert message.startswith(f"{file}:2: import ") and "not a module of tfdet's parts" in message
    assert "--allow_imports" in message
    assert "trap" not in sys.modules and not (Path(folder) / "ran").exists()


@pytest.mark.parametrize(
    "statement",
    ["import os", "import tfdet.__main__", "import tfdet.commands.predict", "from __gin__ import dynamic_registration"],
)
def test_modules_that_are_no_parts_are_not_imported(run, refused, statement):
    assert "not a module of tfdet's parts" in refused(files=[run(f"{statement}\n")])


def test_tfdets_own_modules_and_those_of_a_trusted_run_are_imported(run, monkeypatch, tmp_path):
    (tmp_path / "mine_for_test.py").write_text(
        "from tfdet import config\n@config.configurable\ndef mine(x=1): return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = run("import tfdet.config.zoo\nimport mine_for_test\nmine.x = 3\n")
    with pytest.raises(UserError, match="import mine_for_test"):
        config.parse([file])
    configuration = config.parse([file], allow_imports=True)
    assert configuration.build("mine") == 3
    assert configuration.allow_imports, "what is parsed again from it is trusted too"


def test_what_a_person_names_imports_as_before(tmp_path, monkeypatch):
    (tmp_path / "own_for_test.py").write_text("loaded = True\n")
    (tmp_path / "mine.gin").write_text("import own_for_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    config.parse([str(tmp_path / "mine.gin")])
    assert sys.modules["own_for_test"].loaded


def test_a_file_that_a_runs_file_includes_may_do_no_more(run, refused):
    file = run("include 'more.gin'\n", **{"more.gin": "import os\n"})
    assert "more.gin:1: import os: not a module" in refused(files=[file])


@pytest.mark.parametrize("way", ["absolute", "up", "link", "current folder"])
def test_an_include_does_not_leave_the_run(run, refused, tmp_path, monkeypatch, way):
    (tmp_path / "outside.gin").write_text("Car.doors = 'secret'\n")
    name = {"absolute": str(tmp_path / "outside.gin"), "up": "../outside.gin", "link": "link.gin"}.get(
        way, "outside.gin"
    )
    file = run(f"include '{name}'\n")
    (tmp_path / "run/link.gin").symlink_to(tmp_path / "outside.gin")
    monkeypatch.chdir(tmp_path)
    message = refused(files=[file])
    assert "leaves the folder of the run" in message and "secret" not in message


def test_a_run_includes_what_lies_in_it_and_tfdets_files(run):
    file = run("include 'sub.gin'\ninclude 'data/coco_800_1333.gin'\n", **{"sub.gin": "Car.doors = 3\n"})
    config.register_all()
    assert config.parse([file]).value("Car.doors") == 3


@pytest.mark.parametrize(
    "text", ["root:x:0:0:secret\n", "PASSWORD = hunter-secret\n", "secret.name = 3\n", "'secret\n"]
)
def test_a_file_that_is_no_gin_file_is_not_quoted(tmp_path, refused, text):
    (tmp_path / "passwd").write_text(text)
    (tmp_path / "link.gin").symlink_to(tmp_path / "passwd")
    for name in ("passwd", "link.gin"):
        (tmp_path / "mine.gin").write_text(f"include '{tmp_path / name}'\n")
        message = refused(files=[str(tmp_path / "mine.gin")])
        assert str(tmp_path / name) in message and "its text is not shown" in message and "secret" not in message


def test_a_run_refers_to_tfdets_parts_alone(run, refused):
    """Other packages register things with gin as well; os.makedirs stands for them."""
    gin.external_configurable(os.makedirs, module="foreign_for_test")
    for text in ("Car.engine = @foreign_for_test.makedirs()\n", "foreign_for_test.makedirs.name = 'x'\n"):
        assert "foreign_for_test.makedirs is no part of tfdet" in refused(files=[run(text)])


DEEP = "".join(f"M{i} = %M{i + 1}\n" for i in range(3000)) + "M3000 = 1\nCar.doors = %M0\n"
WIDE = "".join(f"M{i} = [{', '.join([f'%M{i + 1}'] * 10)}]\n" for i in range(20)) + "M20 = 1\nCar.sizes = %M0\n"
BOMBS = {
    "a chain of macros": (DEEP, {}, "behind 100 other macros"),
    "macros that multiply": (WIDE, {}, "stands for more than 200000 values, most of them behind %M"),
    "the same from the last to the first": ("\n".join(reversed(WIDE.splitlines())), {}, "more than 200000 values"),
    "includes itself": ("include 'config.gin'\n", {}, "include each other"),
    "includes that multiply": (
        "include '0.gin'\n",
        {f"{i}.gin": f"include '{i + 1}.gin'\n" * 2 if i < 30 else "" for i in range(31)},
        "gin files have more than 512 kB, or are more than 1000",
    ),
    "a long file": ("# " + "x" * (1 << 20), {}, "more than 512 kB"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_one_line_and_take_no_time(run, refused, name):
    text, others, expected = BOMBS[name]
    file = run(text, **others)
    begin = time.process_time()
    assert expected in refused(files=[file])
    assert time.process_time() - begin < 5


def test_parts_that_multiply(refused):
    bindings = [f"build_anything.{name} = @build_garage()" for name in "ab"]
    bindings += [f"build_garage.{name} = [{', '.join(['@build_lock()'] * 1000)}]" for name in ("size", "height")]
    bindings += [f"build_lock.turns = [{', '.join(['1'] * 1000)}]"]
    assert "stands for more than 200000 values, most of them behind build_" in refused(*bindings)


def test_a_part_that_is_built_through_itself():
    configuration = config.parse([], ["build_anything.a = @build_anything()"])
    with pytest.raises(UserError, match="build_anything: the parts of this configuration are built through each other"):
        configuration.build("build_anything")


def test_macros_refer_to_each_other_as_deeply_as_anyone_needs(run):
    text = "".join(f"M{i} = (%M{i + 1}, 2)\n" for i in range(untrusted.MAX_DEPTH - 1))
    file = run(text + f"M{untrusted.MAX_DEPTH - 1} = 1\nbuild_anything.a = %M0\n")
    assert config.parse([file]).build("build_anything")["a"][1] == 2
