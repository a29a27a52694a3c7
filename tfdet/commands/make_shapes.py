"""Draws a small synthetic detection data set, for the demo and for trying things out."""

from __future__ import annotations

import argparse
import pathlib
import re

DESCRIPTION = "Draw a synthetic detection data set (circles, squares, triangles) as TFRecords."
_NUM_PICTURES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--output", required=True, metavar="FOLDER",
        help="folder to make: the data sets FOLDER/train and FOLDER/val, and FOLDER/pictures, some of val as files",
    )  # fmt: skip
    parser.add_argument("--train_images", type=int, default=400, help="training images (default: %(default)s)")
    parser.add_argument("--val_images", type=int, default=100, help="validation images (default: %(default)s)")
    parser.add_argument("--size", default="128x160", metavar="HxW", help="image size in pixels (default: %(default)s)")
    parser.add_argument(
        "--portrait_fraction", type=float, default=0.25, help="part of the images in portrait (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the drawing (default: %(default)s)")
    parser.add_argument("--num_shards", type=int, default=2, help="record files of each set (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace data sets that are already there")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tfdet.commands.convert_data import print_manifest
    from tfdet.data.convert import convert
    from tfdet.data.problems import ProblemReport
    from tfdet.data.shapes import draw_shapes
    from tfdet.errors import EXIT_OK, UserError
    from tfdet.terminal import Console

    match = re.fullmatch(r"(\d+)x(\d+)", args.size)
    if not match or min(height := int(match[1]), width := int(match[2])) < 32:
        raise UserError(f"--size {args.size!r} must be HEIGHTxWIDTH in pixels, each at least 32, such as 128x160")
    if min(args.train_images, args.val_images) < 1:
        raise UserError("--train_images and --val_images must be at least 1")
    if args.seed < 0 or not 0 <= args.portrait_fraction <= 1:
        raise UserError("--seed must not be negative and --portrait_fraction must lie between 0 and 1")
    console = Console()
    first_id = 1
    for split, count in (("train", args.train_images), ("val", args.val_images)):
        annotations = draw_shapes(count, height, width, args.seed, first_id, args.portrait_fraction)
        first_id += count
        folder = pathlib.Path(args.output) / split
        report = ProblemReport()
        manifest = convert(
            annotations, folder, f"shapes_{split}", f"drawn shapes, seed {args.seed}", report,
            num_shards=min(args.num_shards, count), num_workers=0, overwrite=args.overwrite, console=console,
        )  # fmt: skip
        if report.problems:
            report.print_summary(console)
        print_manifest(manifest, console)
    _write_pictures(annotations.images, pathlib.Path(args.output) / "pictures")
    return EXIT_OK


def _write_pictures(images, folder: pathlib.Path) -> None:
    """Writes the first validation images as files, to try prediction on."""
    folder.mkdir(exist_ok=True)
    for image in images[:_NUM_PICTURES]:
        (folder / image.file_name).write_bytes(image.encoded)
