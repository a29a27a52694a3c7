"""Compare a family with stored outputs of SimpleDet, map by map."""

from __future__ import annotations

import argparse

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="golden folders; the family is in their meta.json")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference over a map's absolute maximum (default 1e-4)"
    )


def run(args: argparse.Namespace) -> int:
    """Checks every folder with its folded and its un-folded checkpoint."""
    from rich.console import Console
    from rich.table import Table

    from tfdet.weights import golden as goldens

    console, worst = Console(), 0.0
    for folder in args.folders:
        golden = goldens.read_golden(folder)
        results = {
            "folded": goldens.check(golden, golden.folded),
            "un-folded": goldens.check(golden, golden.unfolded),
        }
        table = Table("map", "shape", *results, title=f"{golden.meta['row']}: largest error / absolute maximum")
        for rows in zip(*results.values(), strict=True):
            worst = max(worst, *(row.error for row in rows))
            shape = "x".join(map(str, rows[0].shape))
            table.add_row(rows[0].name, shape, *(_mark(row.error, args.tolerance) for row in rows))
        console.print(table)
        skipped = goldens.unchecked(golden, results["folded"])
        console.print(f"{len(results['folded'])} maps compared; without a counterpart: {', '.join(skipped) or 'none'}")
    passed = worst <= args.tolerance
    console.print(f"{'agrees' if passed else 'DIFFERS'}: worst {worst:.2e}, tolerance {args.tolerance:.0e}")
    return EXIT_OK if passed else EXIT_CHECK_FAILED


def _mark(error: float, tolerance: float) -> str:
    return f"{error:.1e}" if error <= tolerance else f"[red]{error:.1e}[/red]"
