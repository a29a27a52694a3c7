"""The `tfdet` command: finding commands, exit codes, errors in one line, and how fast help is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import gin
import pytest

from tfdet import commands, config
from tfdet.commands._help import filled
from tfdet.errors import EXIT_DIVERGED, EXIT_OK, EXIT_USER_ERROR, DivergedError, UserError

ROOT = Path(commands.__file__).resolve().parent.parent.parent

COMMAND = '''"""Sing a song.

Longer text.
"""

from tests.commands.test_dispatch import raise_what

def add_arguments(parser):
    """Adds flags."""
    parser.add_argument("--verses", type=int, default=3)

def run(args):
    """Sings."""
    raise_what()
    return args.verses
'''

_to_raise: list[BaseException] = []


def raise_what() -> None:
    """Raises what a test asked for; called by the made-up command."""
    if _to_raise:
        raise _to_raise.pop()


@pytest.fixture
def song(tmp_path, monkeypatch):
    """A package path with the one command `sing_song`, in place of the real ones."""
    (tmp_path / "sing_song.py").write_text(COMMAND)
    (tmp_path / "flags.py").write_text("")
    (tmp_path / "_private.py").write_text("")
    monkeypatch.setattr(commands, "__path__", [str(tmp_path)])
    for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    yield tmp_path
    sys.modules.pop("tfdet.commands.sing_song", None)
    _to_raise.clear()


def test_commands_are_the_modules_of_the_folder(song, capsys):
    assert commands.command_names() == ["sing_song"]
    assert commands.main(["sing_song"]) == 3
    assert commands.main(["sing-song", "--verses=5"]) == 5
    assert commands.main(["sing_song", "--verses=0"]) == EXIT_OK
    with pytest.raises(SystemExit) as caught:
        commands.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "sing_song  Sing a song.\n" in out and "\n  flags" not in out and "_private" not in out


def test_help_of_one_command_and_a_wrong_flag(song, capsys):
    with pytest.raises(SystemExit) as caught:
        commands.main(["sing_song", "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and "tfdet sing_song" in out and "Longer text." in out
    with pytest.raises(SystemExit) as caught:
        commands.main(["sing_song", "--verse=2"])  # abbreviations are no flags: they change meaning with new ones
    assert caught.value.code == EXIT_USER_ERROR


def test_unknown_command(song, capsys):
    assert commands.main(["sing_sonk"]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert error == "tfdet: error: no command 'sing_sonk'. Did you mean 'sing_song'? Commands: sing_song.\n"


def test_no_command_shows_help_and_fails(song, capsys):
    assert commands.main([]) == EXIT_USER_ERROR
    assert "sing_song" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error, code, text",
    [
        (UserError("x.gin: bad"), EXIT_USER_ERROR, "tfdet: error: x.gin: bad"),
        (UserError("two\nlines"), EXIT_USER_ERROR, "tfdet: error: two lines"),
        (DivergedError("step 7"), EXIT_DIVERGED, "tfdet: error: step 7"),
        (KeyboardInterrupt(), 130, "tfdet: interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 2, "/a/b: No space left on device. Free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 2, "/a/b: Permission denied. Choose a folder"),
        (OSError(errno.EROFS, "Read-only file system", "/a", None, "/b"), 2, "/a -> /b: Read-only file system."),
    ],
)
def test_errors_for_people_are_one_line(song, capsys, error, code, text):
    _to_raise.append(error)
    assert commands.main(["sing_song"]) == code
    captured = capsys.readouterr()
    assert text in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("defect"), OSError(errno.EIO, "I/O error", "/a"), KeyError("k")])
def test_defects_keep_their_traceback(song, error):
    _to_raise.append(error)
    with pytest.raises(type(error)):
        commands.main(["sing_song"])


def test_errors_out_of_a_configurable_lose_what_gin_adds():
    @config.configurable
    def build_choir(error=None, size: int = 3):
        raise error

    def line(error):
        try:
            build_choir(error)
        except Exception as caught:
            return commands.one_line(caught)

    assert line(UserError("x.gin: bad")) == "x.gin: bad"
    assert line(OSError(errno.ENOSPC, "No space left on device", "/a")).startswith("/a: No space left on device.")
    assert line(ValueError("defect")) is None


def test_a_parameter_without_value_is_named():
    @config.configurable
    def build_stage(width):
        return width

    with pytest.raises(TypeError) as caught:
        build_stage()
    assert commands.one_line(caught.value).startswith("build_stage.width has no value: set it in a gin file")


def test_an_input_without_data_names_the_flag():
    @config.configurable(module="tests.dispatch")
    class TrainInput:
        def __init__(self, data_dir):
            pass

    try:
        with pytest.raises(TypeError) as caught:
            TrainInput()
        assert commands.one_line(caught.value).endswith("or give --train_data")
    finally:  # the name must stay unambiguous for other tests
        gin.config._REGISTRY.pop("tests.dispatch.TrainInput")


def test_tensorflows_own_file_errors_are_one_line():
    import tensorflow as tf

    full = tf.errors.ResourceExhaustedError(None, None, "/a/ckpt-1.index; No space left on device\nmore")
    assert commands.one_line(full).startswith("/a/ckpt-1.index; No space left on device Free some space")
    assert commands.one_line(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")) is None


def _run(*command: str) -> tuple[subprocess.CompletedProcess, float]:
    """The finished process and its CPU seconds (the wall clock of a busy machine says little)."""
    before = os.times()
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd="/", timeout=120)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return result, used


def test_help_lists_every_command_with_a_line_and_is_quick():
    result, seconds = _run(str(ROOT / "scripts/convert_weights.py"), "--help")
    assert result.returncode == 0 and "usage: tfdet convert_weights" in result.stdout
    assert seconds < 2
    for name in commands.command_names():
        assert commands._summary(name).endswith("."), f"{name}: the docstring's first line is its help"


@pytest.mark.parametrize("name", commands.command_names())
def test_help_of_every_command_imports_nothing_heavy(name):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tfdet.commands import main\n"
        "try: main([sys.argv[2], '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "slow = {'tensorflow', 'keras', 'numpy', 'official', 'orbit', 'PIL', 'rich', 'pycocotools'}\n"
        "heavy = slow & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result, seconds = _run("-c", script, str(ROOT), name)
    assert result.returncode == 0, result.stderr
    assert seconds < 2


def test_scripts_work_without_installing_and_from_any_folder():
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    assert scripts
    for script in scripts:
        text = script.read_text()
        called = f'main(["{script.stem}", *sys.argv[1:]])' if script.stem in commands.command_names() else "sys.exit("
        assert called in text and len(text.splitlines()) < 80


def test_every_command_has_its_script():
    assert {script.stem for script in (ROOT / "scripts").glob("*.py")} >= set(commands.command_names())


def test_help_cut_short_by_head_is_no_error():
    command = f"{sys.executable} -m tfdet --help | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "Traceback" not in result.stderr


def test_import_tfdet_is_quick():
    start = time.process_time()
    result, seconds = _run("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tfdet, tfdet.commands")
    assert result.returncode == 0, result.stderr
    assert seconds < 2 and time.process_time() >= start


@pytest.mark.parametrize("name", ["", *commands.command_names()])
def test_help_fits_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        commands.main([*name.split(), "--help"])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) > 5 and not [line for line in shown.splitlines() if len(line) > 80]


def test_a_comment_of_a_command_moves_above_it_where_both_are_too_wide():
    assert filled("  tfdet data fetch bccd    # three data sets", 30) == [
        "  # three data sets",
        "  tfdet data fetch bccd",
    ]
    assert filled("  zoo  of two words", 12) == [
        "  zoo  of",
        "  two words",
    ]
    assert filled("  zoo  of two words", 14) == ["  zoo  of two", "       words"]
