"""Show what tfdet finds on this machine: versions, devices, custom ops, precision, memory.

Exit code 1 when something is wrong; the table says what, and what to do.
"""

from __future__ import annotations

import argparse

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no flags."""


def run(args: argparse.Namespace) -> int:
    """Prints the findings."""
    from rich.table import Table
    from rich.text import Text

    from tfdet.report.environment import findings
    from tfdet.terminal import Console

    table = Table(title="tfdet doctor", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    problems = 0
    for finding in findings():
        value = Text(finding.value)
        if finding.problem is not None:
            problems += 1
            value.append(f"\n{finding.problem}", style="red")
        table.add_row(finding.subject, value)
    console = Console(soft_wrap=False)
    console.print(table)
    console.print("nothing is wrong" if not problems else f"{problems} to put right, see above", highlight=False)
    return EXIT_CHECK_FAILED if problems else EXIT_OK
