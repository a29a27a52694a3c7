"""Write a trained detector as a SavedModel, and check that it finds what the checkpoint finds.

The SavedModel takes encoded or decoded images and needs TensorFlow alone; docs/serving.md shows its use. After writing,
the same images go through the checkpoint and the SavedModel; a difference ends the command with exit code 1.
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_model_dir(parser, required=False)
    flags.add_weights(parser)
    flags.add_config(parser)
    flags.add_eval_data(parser)
    flags.add_checkpoint(parser)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where to write; absent or empty")
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help="images, folders or patterns for the check; default: images of the evaluation data, else drawn ones",
    )
    parser.add_argument("--num_images", type=int, default=4, metavar="N", help="most images to check (default 4)")
    parser.add_argument(
        "--box_tolerance", type=float, metavar="PX", help="largest difference of a box, in original pixels"
    )
    parser.add_argument("--score_tolerance", type=float, metavar="X", help="largest difference of a score")
    parser.add_argument(
        "--native_ops",
        action="store_true",
        help="trace tfdet's custom ops; the model then loads only where their library was loaded first (default: "
        "TensorFlow's own ops, which load anywhere)",
    )
    flags.add_max_pixels(parser, "the export refuses larger ones before it decodes them")


def run(args: argparse.Namespace) -> int:
    """Exports and verifies."""
    from tfdet.errors import UserError
    from tfdet.export.run import ExportDiffersError
    from tfdet.predict.exported import SIGNATURES
    from tfdet.terminal import Console

    if args.num_images < 1:
        raise UserError(f"--num_images {args.num_images} must be at least 1")
    console, model, failed = Console(soft_wrap=True), flags.load(args), False
    try:
        done = model.export(
            args.output,
            images=args.images,
            eval_data=args.eval_data,
            num_images=args.num_images,
            box_tolerance=args.box_tolerance,
            score_tolerance=args.score_tolerance,
            native_ops=args.native_ops,
            max_pixels=args.max_pixels,
        )
    except ExportDiffersError as error:
        done, failed = error.export, True
    console.print(
        f"{model.describe()} written to {args.output}: signatures {', '.join(SIGNATURES)} (image_bytes "
        f"is also serving_default), short side {done.resize.short_side}, long side at most {done.resize.long_side}",
        highlight=False,
    )
    console.print(done.table())
    if failed:
        console.print(
            f"the export in {args.output} does NOT find what the checkpoint finds: do not use it", style="red"
        )
        return EXIT_CHECK_FAILED
    if not done.num_detections:
        console.print(
            f"warning: nothing was compared, for there is no detection on {done.origin}: give images with objects by "
            "--images",
            style="yellow",
        )
    else:
        console.print(f"the export finds what the checkpoint finds on {done.origin}")
    return EXIT_OK
