"""Measure a trained detector with COCO's box metrics, and its masks where it and the data set have them.

The run's folder gives the configuration and the class names; --gin_param changes single values, such as
"PostProcess.score_threshold = 0.001". It runs on all GPUs, or on the CPU.
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_model_dir(parser, required=False)
    flags.add_weights(parser)
    flags.add_config(parser)
    flags.add_eval_data(parser)
    flags.add_checkpoint(parser)
    parser.add_argument("--max_images", type=int, metavar="N", help="measure the first N images alone")
    parser.add_argument("--output", metavar="FILE", help="write the detections to this file, in COCO's result format")
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        help="measure against this COCO json, whose image ids must be the data set's, and whose categories have its "
        "names; default: the data set's own boxes",
    )
    parser.add_argument(
        "--max_detections",
        type=int,
        metavar="N",
        help="detections of each class in an image that count (default 100, COCO's); as many have to be found, see "
        "PostProcess.max_detections",
    )
    parser.add_argument("--results", metavar="FILE.jsonl", help="append the figures to this file (see `tfdet zoo`)")
    parser.add_argument("--pictures", metavar="FOLDER", help="draw some images with truth and detections, as PNG")
    parser.add_argument("--num_pictures", type=int, default=8, metavar="N", help="how many (default 8)")


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints the figures."""
    from tfdet.errors import UserError
    from tfdet.evaluate.tables import class_table, metrics_table
    from tfdet.terminal import Console

    if args.max_images is not None and args.max_images < 1:
        raise UserError(f"--max_images {args.max_images} must be at least 1")
    console = Console(soft_wrap=True)
    model = flags.load(args)
    result = model.evaluate(
        annotations=args.annotations,
        max_images=args.max_images,
        num_samples=args.num_pictures if args.pictures else 0,
        max_detections=args.max_detections,
        console=console,
    )
    counted = "" if args.max_detections is None else f", of up to {result.max_detections} detections an image"
    console.print(class_table(result.per_class, f"per class, %{counted}"))
    console.print(metrics_table(result.metrics, f"COCO box metrics, %{counted}"))
    if result.mask_metrics is not None:
        console.print(class_table(result.mask_per_class, f"masks per class, %{counted}"))
        console.print(metrics_table(result.mask_metrics, f"COCO mask metrics, %{counted}"))
    console.say(result.line())
    console.say(result.time_line())
    if args.output:
        result.save_detections(args.output)
        console.say(f"{len(result.detections)} detections written to {args.output}")
    if args.results:
        _append(args, result, model.step)
        console.say(f"appended to {args.results}")
    if args.pictures:
        result.save_pictures(args.pictures)
        console.say(f"{len(result.samples)} pictures (truth left, detections right) written to {args.pictures}")
    return EXIT_OK


def _append(args: argparse.Namespace, result, step: int) -> None:
    from tfdet.bench.results import append_result

    figures = {name: round(value, 4) for name, value in result.metrics.items()}
    figures |= {f"mask_{name}": round(value, 4) for name, value in (result.mask_metrics or {}).items()}
    figures |= {f"{part}_seconds": round(seconds, 2) for part, seconds in result.parts.items()}
    figures |= {"max_detections": result.max_detections, "images_per_second": round(result.images_per_second, 2)}
    append_result(args.results, "evaluate", flags.row_name(args), data=result.data, step=step, **figures)
