"""Find objects on images, and write annotated pictures and a json file.

Takes image files, folders and patterns, and a training run (--model_dir), an exported model (--saved_model) or
published weights (--weights=NAME, see `tfdet weights`); weights of a file need --gin_file beside.
An image that cannot be read is named and skipped; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import collections

from tfdet.commands import flags
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file, folder, or pattern like 'in/**/*.jpg'")
    flags.add_model_dir(parser, required=False)
    parser.add_argument("--saved_model", metavar="FOLDER", help="an exported model, in place of --model_dir")
    flags.add_weights(parser)
    flags.add_config(parser)
    flags.add_checkpoint(parser)
    parser.add_argument(
        "--output", default="predictions", metavar="FOLDER", help="folder for the results (default: predictions)"
    )
    parser.add_argument(
        "--score_threshold", type=float, default=0.3, metavar="X", help="leave out detections below it (default 0.3)"
    )
    flags.add_max_pixels(parser, "larger ones are named and skipped")


def run(args: argparse.Namespace) -> int:
    """Predicts and writes."""
    from tfdet.data.listing import count_endings
    from tfdet.errors import UserError
    from tfdet.exported_model import ExportedModel
    from tfdet.predict.files import predict_files
    from tfdet.predict.sources import find_images
    from tfdet.terminal import Console

    if sum(map(bool, (args.model_dir, args.saved_model, args.weights))) != 1:
        raise UserError(
            "give one of --model_dir (a training run), --saved_model (an exported model) and --weights (a published "
            "name or a file)"
        )
    if args.saved_model and (args.gin_file or args.gin_param or args.checkpoint):
        raise UserError("--saved_model holds its own configuration: leave out --gin_file, --gin_param and --checkpoint")
    if args.saved_model and args.raw_weights:
        raise UserError("--saved_model holds its own weights: leave out --raw_weights")
    if not 0 <= args.score_threshold <= 1:
        raise UserError(f"--score_threshold {args.score_threshold} must be from 0 to 1")
    passed_over: collections.Counter[str] = collections.Counter()
    files = find_images(args.images, passed_over)
    console = Console(soft_wrap=True)
    if passed_over:
        console.print(
            f"passed over: {count_endings(passed_over)} (a file that is named itself is read)", highlight=False
        )
    model = ExportedModel(args.saved_model) if args.saved_model else flags.load(args)
    summary = predict_files(model.predictor, files, args.output, args.score_threshold, console, args.max_pixels)
    console.print(
        f"{summary.num_images} images, {summary.num_detections} detections from {100 * args.score_threshold:.0f}% up, "
        f"{summary.images_per_second:.1f} img/s: pictures and {summary.json_file} written",
        highlight=False,
    )
    if summary.failed:
        console.print(f"{len(summary.failed)} of {len(files)} images could not be read (named above)", style="red")
        return EXIT_CHECK_FAILED
    return EXIT_OK
