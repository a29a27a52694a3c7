"""Text from outside: files in every encoding, and what of a name reaches a terminal."""

import io
import json
import os

import pytest
from rich.table import Table

from tfdet.commands import main
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.report.console import ConsoleReport
from tfdet.terminal import Console, shown
from tfdet.text import name_bytes, name_of, one_line, printable, read_lines

EVIL = "a\x1b[31m\x1b]0;title\x07\rb\u202egpj.\x9b2J[red]:smile:\u2028c\udce9.jpg"
SAFE = r"a\x1b[31m\x1b]0;title\x07\x0db\u202egpj.\x9b2J[red]:smile:\u2028c\xe9.jpg"


def test_what_steers_a_terminal_is_escaped_and_all_else_stays():
    assert printable(EVIL) == SAFE
    assert printable("\ufeffx\u200b\U000e0041\ud800") == r"\ufeffx\u200b\U000e0041\ud800"
    plain = "Größe 猫 कि\u200dक 👩\u200d🚒\tא\n"
    assert printable(plain) == plain
    assert one_line("a\nb\x1b") == r"a\nb\x1b"


def written(print_to, encoding="utf-8", **options):
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")
    print_to(Console(file=buffer, width=120, **options))
    buffer.flush()
    return buffer.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("terminal", [False, True])
def test_every_way_to_print_ends_in_the_same_text(terminal):
    def cells(console):
        table = Table("name", title=EVIL)
        table.add_row(EVIL)
        table.add_row(shown(EVIL))
        console.print(table)

    report = ProblemReport()
    report.add("bad\x1b[2J", EVIL, None, "[bold]x:cat:", "kept")
    ways = (
        lambda console: console.print(EVIL, highlight=False),
        lambda console: console.print(shown(EVIL, "red"), style="bold"),
        cells,
        lambda console: ConsoleReport(console).warned(EVIL),
        lambda console: ConsoleReport(console).started({"model directory": EVIL}),
        report.print_summary,
    )
    for way in ways:
        text = written(way, force_terminal=terminal, color_system=None)
        assert SAFE in text and "\x1b]" not in text and "\u202e" not in text
        assert "\x1b" not in text or terminal


def test_lines_of_a_table_stay_as_wide_as_each_other():
    table = Table("name")
    for name in ("plain", EVIL):
        table.add_row(name)
    lines = written(lambda console: console.print(table)).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_what_the_terminal_cannot_show_stops_nothing():
    assert written(lambda console: console.print("Größe 猫"), encoding="ascii") == "Gr\\xf6\\xdfe \\u732b\n"


def test_errors_are_one_line_without_steering(capsys):
    assert main(["predict", f"--model_dir=no{EVIL}\nwhere", "x.jpg"]) == 2
    error = capsys.readouterr().err
    assert SAFE in error and error.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["train", f"--{EVIL}"])
    assert "\x1b" not in capsys.readouterr().err


def test_a_report_keeps_names_that_are_no_text(tmp_path):
    report = ProblemReport()
    report.add("missing file", os.fsdecode(b"caf\xe9.jpg"), None, "猫", "left out")
    report.write(tmp_path / "report.json")
    content = (tmp_path / "report.json").read_bytes().decode("utf-8")
    assert "猫" in content
    assert os.fsencode(json.loads(content)["findings"][0]["file"]) == b"caf\xe9.jpg"
    for name in (b"caf\xe9.jpg", "Größe".encode()):
        assert name_bytes(os.fsdecode(name)) == name and name_of(name) == os.fsdecode(name)
    assert name_bytes("half \ud83d") == rb"half \ud83d"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_files_in_every_encoding(tmp_path, encoding, end):
    (tmp_path / "list").write_bytes(end.join(["cat 2", "", "  Größe ", "a\u2028b\x85c", ""]).encode(encoding))
    assert read_lines(tmp_path / "list", "the list") == ["cat 2", "Größe", "a\u2028b\x85c"]


def test_a_file_of_another_encoding_is_named(tmp_path):
    (tmp_path / "list").write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(UserError, match="cannot read the list in .*list: byte 5 is not of UTF-8; save it as UTF-8"):
        read_lines(tmp_path / "list", "the list")
    assert read_lines(tmp_path / "list", "the list", "surrogateescape") == ["a", os.fsdecode(b"caf\xe9")]
    with pytest.raises(UserError, match="cannot read the list in .*: Is a directory"):
        read_lines(tmp_path, "the list")
