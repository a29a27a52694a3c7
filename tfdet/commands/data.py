"""List published data sets, or fetch one: downloaded, unpacked, converted, ready to train on."""

from __future__ import annotations

import argparse
import os

EXAMPLES = """examples:
  tfdet data list
  tfdet data fetch bccd                    # data/bccd_train, data/bccd_val, data/bccd_test
  tfdet data fetch coco2017                # shows the sizes and asks; data/coco_train and data/coco_val
  tfdet data fetch coco2017 --yes          # does not ask
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.epilog = EXAMPLES
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT", help="list or fetch")
    listed = what.add_parser("list", help="names, sizes, terms, what is here", allow_abbrev=False)
    fetched = what.add_parser(
        "fetch",
        help="make data sets by name",
        description="Fetches archives, unpacks and converts them. What was interrupted goes on with the same command.",
        allow_abbrev=False,
    )
    fetched.add_argument("names", nargs="+", metavar="NAME", help="of `tfdet data list`")
    for command in (listed, fetched):
        command.add_argument(
            "--output", default="data", metavar="FOLDER", help="folder of the data sets (default: data)"
        )
    fetched.add_argument("--yes", action="store_true", help="fetch more than 1 GB without a question")
    fetched.add_argument(
        "--archives",
        metavar="FOLDER",
        help="folder with the archives, or to fetch them into; they stay there (default: removed when unpacked)",
    )
    fetched.add_argument("--num_workers", type=int, metavar="N", help="worker processes (default: the CPUs; 0: none)")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tfdet.errors import EXIT_OK, UserError
    from tfdet.terminal import Console

    console = Console()
    if args.what == "list":
        console.print(_table(args.output))
        return EXIT_OK
    if args.num_workers is not None and args.num_workers < 0:
        raise UserError(f"--num_workers {args.num_workers} must not be negative")

    from tfdet.data.published.fetch import fetch
    from tfdet.data.published.plan import confirm, plan_fetch
    from tfdet.data.published.table import data_set_called

    data_sets = [data_set_called(name) for name in dict.fromkeys(args.names)]
    plans = [plan_fetch(data_set, args.output, archives=args.archives) for data_set in data_sets]
    for plan in plans:
        if plan.parts:
            console.print(plan.describe(), highlight=False, soft_wrap=True)
    confirm(plans, args.yes)
    for plan in plans:
        fetch(plan, console, args.num_workers)
        for part in plan.data_set.parts:
            state = "is made" if part in plan.parts else "was there already"
            console.print(f"{plan.work.final(part)} {state}", highlight=False, soft_wrap=True)
    return EXIT_OK


def _table(output: str):
    from rich.table import Table

    from tfdet.data.manifest import is_data_set
    from tfdet.data.published.plan import Work
    from tfdet.data.published.table import DATA_SETS
    from tfdet.fetch.progress import megabytes
    from tfdet.files import at_home

    table = Table(title=f"Published data sets, and what of them is in {output}", show_lines=True)
    for heading in ("name", "to fetch", "makes", "here", "what it is, and its terms"):
        table.add_column(heading, overflow="fold")
    for data_set in DATA_SETS.values():
        work = Work(at_home(output), data_set.name, None)
        states = ["yes" if is_data_set(work.final(part)) else "no" for part in data_set.parts]
        if os.path.isdir(work.folder):
            states = ["begun" if state == "no" else state for state in states]
        table.add_row(
            data_set.name,
            megabytes(sum(archive.size for archive in data_set.archives())),
            "\n".join(f"{part.name}, {part.images} images" for part in data_set.parts),
            "\n".join(states),
            f"{data_set.title}; {data_set.terms}: {data_set.page}",
        )
    return table
