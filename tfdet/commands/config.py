"""Show the values of a configuration, part by part, with the file and line that set each; or compare two."""

from __future__ import annotations

import argparse
import os

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT", help="show or diff")
    show = what.add_parser("show", help="every value and where it was set", allow_abbrev=False)
    show.add_argument("rows", nargs="+", metavar="ROW", help="gin file, or a run's folder; later ones override")
    show.add_argument("--defaults", action="store_true", help="name the parameters too that no file sets")
    diff = what.add_parser("diff", help="what two configurations do not have in common", allow_abbrev=False)
    diff.add_argument("rows", nargs=2, metavar="ROW", help="gin file, or a run's folder")
    for command in (show, diff):
        command.add_argument(
            "--gin_param", action="append", default=[], metavar="BINDING", help="overrides one parameter"
        )
        flags.add_allow_imports(command)


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    from tfdet import config
    from tfdet.config import show
    from tfdet.report.console import make_console

    config.register_all()
    console = make_console()
    given = args.gin_param, args.allow_imports
    if args.what == "show":
        shown = show.settings(config.parse(list(map(_file, args.rows)), *given), args.defaults)
        rows = [(s.part, (s.parameter, f"= {s.value}", s.place)) for s in shown]
        console.print(_table(("", "", "set in"), rows))
        return EXIT_OK
    left, right = (config.parse([_file(row)], *given) for row in args.rows)
    found = show.differences(left, right)
    if not found:
        console.print("no difference")
        return EXIT_OK
    sides = ((d.part, (d.parameter, *(side.value if side else "-" for side in (d.left, d.right)))) for d in found)
    console.print(_table(("", *args.rows), sides))
    return EXIT_OK


def _file(row: str) -> str:
    """The gin file that a person means by its name or by the folder of a run."""
    from tfdet.config.files import RUN_FILE

    written = os.path.join(row, RUN_FILE)
    return written if os.path.isfile(written) else row


def _table(columns, rows):
    """Rows (part, cells) below a line for each part."""
    from rich.table import Table
    from rich.text import Text

    table, last = Table(box=None, pad_edge=False, header_style="dim"), None
    for column in columns:
        table.add_column(column, overflow="fold")
    for part, (name, *others) in rows:
        if part != last:
            table.add_row(Text(f"{chr(10) if last else ''}{part}", style="bold"))
            last = part
        table.add_row(Text(f"  {name}"), *map(Text, others))
    return table
