"""Say how well a detector's anchors fit the objects of a data set, and which would fit better.

The proposal is a gin file: give it after the row, `--gin_file=anchors.gin`.
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.set_defaults(model_dir=None)
    parser.add_argument("data", metavar="DATA", help="data set that the detector is to be trained on")
    flags.add_config(parser)
    parser.add_argument("--num_scales", type=int, metavar="N", help="scales of a cell (default: as many as there are)")
    parser.add_argument("--num_ratios", type=int, metavar="N", help="ratios of a cell (default: as many as there are)")
    parser.add_argument("--output", metavar="FILE.gin", help="write the proposal to this gin file")


def run(args: argparse.Namespace) -> int:
    """Prints the table and the bindings."""
    from tfdet.report.anchors import propose, table, write
    from tfdet.terminal import Console

    configuration = flags.configure(args)
    proposal = propose(args.data, configuration, args.num_scales, args.num_ratios)
    console = Console()
    console.print(table(proposal))
    for line in proposal.advice:
        console.say(line)
    for line in proposal.lines:
        console.print(f"  {line}", soft_wrap=True)  # to be copied
    if args.output:
        write(args.output, proposal, flags.row_name(args))
        console.say(f"Written. Give it after the row: --gin_file={args.output}")
    return EXIT_OK
