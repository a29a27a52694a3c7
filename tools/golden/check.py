"""Compare detectors with stored outputs of SimpleDet, Detectron2 or torchvision, map by map.

Each folder's detector is the one that the gin files of its row build, with the widths of the folder's weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="golden folders; the family is in their meta.json")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="for SimpleDet: largest difference over a map's absolute maximum (default 1e-4). For the other programs "
        "the folder has the tolerances: multiples of the program's own noise",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="holds the photographs of jpeg_e2e.npz, at any depth; without it that file is not compared",
    )
    parser.add_argument("--export", action="store_true", help="detect on the photographs with an exported model too")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="folders may go without the arrays that their meta.json lists as left_out, as those in tests/golden do",
    )


def run(args: argparse.Namespace) -> int:
    """Checks every folder; one that cannot be checked is a line on stderr, and the others are checked all the same."""
    from rich.console import Console

    from tfdet.config import register_all
    from tfdet.ops.tensor_float_32 import allow_tensor_float_32

    if not 0 <= args.tolerance <= _MAX_TOLERANCE:
        raise UserError(f"--tolerance {args.tolerance} must be from 0 to {_MAX_TOLERANCE}")
    register_all()
    allow_tensor_float_32(False)
    console, codes = Console(soft_wrap=True), []
    for folder in map(Path, args.folders):
        try:
            codes.append(_check(folder, args, console))
        except UserError as error:
            codes.append(_refuse(str(error)))
        except _BROKEN as error:  # whatever a folder can hold that no check above has words for
            words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            codes.append(_refuse(f"{folder}: its arrays or figures do not fit together ({words})"))
    if set(codes) == {_PASSED_OVER}:
        return _refuse(f"{args.folders[0]}: nothing here is compared by this program")
    return max(codes)


def _refuse(line: str) -> int:
    print(f"check_golden: error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR


_MAX_TOLERANCE = 1e-2
_PASSED_OVER = -1
_BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
_SHOWN = 12
"""So many findings are shown."""


def _check(folder: Path, args: argparse.Namespace, console) -> int:
    """An exit code, or `_PASSED_OVER`."""
    import tensorflow as tf

    from tools.golden import torch_folder
    from tools.golden.files import read_json

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / "meta.json").is_file():
        if next(folder.glob("*.npz"), None) and folder.resolve().name == "ops":
            console.print(f"{folder}: inputs and outputs of single operators, which tests/ops compares; passed over")
            return _PASSED_OVER
        raise UserError(f"{folder}: not a golden folder: it has no meta.json")
    meta = read_json(folder / "meta.json")
    try:
        if torch_folder.is_torch(meta):
            return EXIT_OK if _check_torch(folder, args, console) else EXIT_CHECK_FAILED
        if "row" in meta:
            return EXIT_OK if _check_simpledet(folder, args, console) else EXIT_CHECK_FAILED
    except tf.errors.OpError as error:
        raise ValueError(error.message) from error
    kind = "a training trajectory" if (folder / "trajectory.npz").is_file() else "of no kind that is known"
    raise UserError(f"{folder}: {kind}: meta.json names neither a row of SimpleDet nor a checkpoint's state_dict")


def _check_simpledet(folder: Path, args: argparse.Namespace, console) -> bool:
    from rich.table import Table

    from tools.golden import simpledet_check
    from tools.golden.simpledet_folder import read_golden

    golden = read_golden(folder, args.partial)
    verdicts = simpledet_check.check(golden, [golden.folded, golden.unfolded], args.tolerance)
    table = Table(
        "map", "shape", "folded", "un-folded", title=f"{golden.meta['row']}: largest error / absolute maximum"
    )
    worst = 0.0
    for rows in zip(*(verdict.maps for verdict in verdicts), strict=True):
        worst = max(worst, *(row.error for row in rows))
        table.add_row(rows[0].name, _shape(rows[0].shape), *map(_mark, rows))
    console.print(table)
    verdict = verdicts[0]
    _print_findings(verdict.findings, console)
    console.print(f"{len(verdict.maps)} arrays compared; {_without(verdict)}", markup=False)
    passed = all(verdict.passed for verdict in verdicts)
    name = folder.resolve().name
    console.print(f"{name} {'agrees' if passed else 'DIFFERS'}: worst {worst:.2e}, tolerance {args.tolerance:.0e}")
    return passed


def _check_torch(folder: Path, args: argparse.Namespace, console) -> bool:
    from rich.table import Table

    from tools.golden import torch_check, torch_folder

    golden = torch_folder.read(folder, args.partial)
    verdict = torch_check.check(golden)
    name = folder.resolve().name
    table = Table("map", "shape", "error", "noise", "limit", title=f"{name}: largest error / absolute maximum")
    for row in verdict.maps:
        noise = "" if row.noise is None else f"{row.noise:.1e}"
        table.add_row(row.name, _shape(row.shape), _mark(row), noise, f"{row.limit:.1e}")
    console.print(table)
    for measure in verdict.measures:
        mark = "" if measure.passed else " [red]too much[/red]"
        console.print(f"{measure.name}: {measure.value:.2g}, at most {measure.limit:.2g}{mark}")
    if verdict.training:
        table = Table("training", "error", "noise", "limit", title=f"{name}: relative errors of losses and gradients")
        for row in _worth_showing(verdict.training):
            table.add_row(row.name, _mark(row), "" if row.noise is None else f"{row.noise:.1e}", f"{row.limit:.1e}")
        console.print(table)
    verdict = _with_photographs(folder, verdict, args, console)
    _print_findings(verdict.findings, console)
    for remark in verdict.remarks:
        console.print(remark, markup=False)
    compared = f"{len(verdict.maps)} maps and {len(verdict.training)} losses, norms and gradients compared"
    console.print(f"{compared}; {_without(verdict)}", markup=False)
    console.print(f"{name} {'agrees' if verdict.passed else 'DIFFERS'}")
    return verdict.passed


def _with_photographs(folder: Path, verdict, args: argparse.Namespace, console):
    """The verdict with what whole photographs add, where a folder has them: they come with their weights."""
    from tools.golden import photos

    files = {name: next(folder.glob(name), None) for name in ("jpeg_e2e.npz", "jpeg_e2e.json", "jpeg_e2e_weights.*")}
    gone = [f"{name}: is missing, of a folder with whole photographs" for name, path in files.items() if path is None]
    if len(gone) == len(files):
        return verdict
    if args.images is None or gone:
        named = {"jpeg_e2e.npz": "whole photographs: --images names their folder"}
        return verdict._replace(findings=verdict.findings + gone, not_compared=verdict.not_compared | named)
    rows = photos.check(folder, args.images, args.export)
    console.print(photos.table(folder.resolve().name, rows))
    faults = [f"{row.file_name}, {row.way}: {fault}" for row in rows for fault in row.faults]
    faults += [] if rows else ["jpeg_e2e.npz: holds no photographs"]
    return verdict._replace(findings=verdict.findings + faults)


def _print_findings(findings: list[str], console) -> None:
    for finding in findings[:_SHOWN]:
        console.print(f"wrong: {finding}", markup=False)
    if len(findings) > _SHOWN:
        console.print(f"and {len(findings) - _SHOWN} more")


def _without(verdict) -> str:
    """The arrays that are not compared, by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in verdict.not_compared.items():
        by_reason.setdefault(reason, []).append(name)
    parts = [f"{', '.join(_brief(names))} ({reason})" for reason, names in by_reason.items()]
    return f"not compared: {'; '.join(parts) or 'none'}"


def _brief(names: list[str]) -> list[str]:
    return names if len(names) <= _SHOWN else [*names[:3], f"{len(names) - 3} more"]


def _worth_showing(rows: list) -> list:
    """All losses, whatever is out of its limit, and of norms and gradients the one nearest to its limit."""
    shown = [row for row in rows if row.name.startswith("loss/") or not row.passed]
    for kind in ("gradnorm/", "grad/", "gradsample/", "direction of "):
        group = [row for row in rows if row.name.startswith(kind)]
        if group:
            shown.append(max(group, key=lambda row: row.error / row.limit))
    return list(dict.fromkeys(shown))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _mark(row) -> str:
    return f"{row.error:.1e}" if row.passed else f"[red]{row.error:.1e}[/red]"
