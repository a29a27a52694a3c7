"""Explain the AP of a run in an HTML page: which errors cost it, on which classes, sizes and images, and what to do.

Takes the folder of a training run or of an exported model, or with --detections what any program found, in COCO's
result format. Writes index.html, report.json and thresholds.json, by which `tfdet predict --thresholds=report` shows
each class from its best score on. docs/report.md says how to read it.
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="folder of a training run, or of an exported model")
    parser.add_argument("--data", metavar="FOLDER", help="data set to measure on; default: the run's evaluation data")
    parser.add_argument(
        "--detections", metavar="FILE.json", help="detections in COCO's result format: the detector is not run"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="where to write; default: report in the run's folder, or here"
    )
    flags.add_checkpoint(parser)
    parser.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="BINDING",
        help="changes one value of the run's configuration",
    )
    flags.add_allow_imports(parser)
    parser.add_argument("--max_images", type=int, metavar="N", help="measure the first N images alone")
    parser.add_argument("--worst", type=int, default=24, metavar="N", help="most images to show (default 24)")
    parser.add_argument(
        "--score_threshold",
        type=float,
        metavar="X",
        help="score from which a detection counts in the confusion of classes and the worst images; default: the best "
        "of each class",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its first screen."""
    from tfdet.run_report import THRESHOLDS, write_report
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    report = write_report(
        args.run,
        args.data,
        detections=args.detections,
        output=args.output,
        checkpoint=int(args.checkpoint) if (args.checkpoint or "").isdigit() else args.checkpoint,
        raw_weights=args.raw_weights,
        bindings=args.gin_param,
        allow_imports=args.allow_imports,
        max_images=args.max_images,
        num_worst=args.worst,
        score_threshold=args.score_threshold,
        console=console,
    )
    reading = Console()
    for line in report.lines:
        reading.print(line)
    reading.print(f"{report.page} written; best thresholds of the classes in {report.folder / THRESHOLDS}")
    return EXIT_OK
