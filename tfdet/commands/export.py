"""Write a trained detector for other programs, and check that it finds what the checkpoint finds.

A SavedModel takes encoded or decoded images and needs TensorFlow alone (docs/serving.md); ONNX, LiteRT and OpenVINO
take decoded images (docs/exports.md). After writing, the same images go through the checkpoint and the export, and with
--eval_data AP of both is measured; a difference ends the command with exit code 1. MODEL_CARD.md beside the model says
what it is.
"""

from __future__ import annotations

import argparse
import os

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
        "--format",
        choices=("saved_model", "onnx", "litert", "openvino"),
        default="saved_model",
        help="of the model (default saved_model); the others need an extra of that name: pip install 'tfdet[onnx]'",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the model; float16: litert, openvino; int8: litert, calibrated on 64 images of the training data",
    )
    parser.add_argument(
        "--canvas",
        metavar="HxW",
        help="one size of all images but of a SavedModel, in pixels, such as 320x416, the content at the top left; "
        "default: any size, of litert a square of the long side",
    )
    parser.add_argument(
        "--versions",
        action="store_true",
        help="write into the next numbered folder below --output, 1, 2, ..., as TF Serving reads them",
    )
    parser.add_argument(
        "--bad_images",
        choices=("alone", "all"),
        default="alone",
        help="what fails where an image of a SavedModel's batch cannot be read: its own result, which is empty and "
        "says so (default), or the call, with the image's number",
    )
    parser.add_argument(
        "--verify", action="store_true", default=True, help="compare the export with the checkpoint (the default)"
    )
    parser.add_argument("--no_verify", action="store_false", dest="verify", help="compare nothing")
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help="images, folders or patterns for the check; default: images of the evaluation data, else drawn ones",
    )
    parser.add_argument("--num_images", type=int, default=4, metavar="N", help="most images to check (default 4)")
    parser.add_argument(
        "--ap_images",
        type=int,
        metavar="N",
        help="most images of --eval_data on which AP of both is measured; default: all, 0: none",
    )
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
    from tfdet.export.formats.graph import parse_canvas
    from tfdet.export.model_card import CARD
    from tfdet.export.run import ExportDiffersError
    from tfdet.terminal import Console

    if args.num_images < 1:
        raise UserError(f"--num_images {args.num_images} must be at least 1")
    canvas = None if args.canvas is None else parse_canvas(args.canvas)
    console, model, failed = Console(), flags.load(args), False
    try:
        done = model.export(
            args.output,
            verify=args.verify,
            images=args.images,
            eval_data=args.eval_data,
            num_images=args.num_images,
            box_tolerance=args.box_tolerance,
            score_tolerance=args.score_tolerance,
            native_ops=args.native_ops,
            max_pixels=args.max_pixels,
            format=args.format,
            precision=args.precision,
            canvas=canvas,
            ap_images=args.ap_images,
            versions=args.versions,
            bad_images=args.bad_images,
        )
    except ExportDiffersError as error:
        done, failed = error.export, True
    console.say(f"{model.describe()} written to {done.folder}: {done.describe()}")
    if done.differences:
        console.print(done.table())
    if done.measured is not None:
        console.say(done.measured.line())
    if failed:
        console.say(f"the export in {done.folder} does NOT find what the checkpoint finds: do not use it", "red")
        return EXIT_CHECK_FAILED
    if args.verify and not done.num_detections:
        console.say(
            f"warning: nothing was compared, for there is no detection on {done.origin}: give images with objects by "
            "--images",
            "yellow",
        )
    elif args.verify and not done.judged and done.measured is None:
        console.say(
            f"{args.precision} differs from the checkpoint as the table says: --eval_data measures what AP that costs",
            "yellow",
        )
    elif args.verify:
        console.say(f"the export finds what the checkpoint finds on {done.origin}")
    console.say(f"its card: {os.path.join(done.folder, CARD)}")
    return EXIT_OK
