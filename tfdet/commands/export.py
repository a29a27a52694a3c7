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
    parser.add_argument(
        "--checkpoint", metavar="STEP", help='step of the checkpoint, or "best"; default: the newest one'
    )
    flags.add_raw_weights(parser)
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


def run(args: argparse.Namespace) -> int:
    """Exports and verifies."""
    from rich.console import Console
    from rich.markup import escape

    from tfdet.errors import UserError
    from tfdet.evaluate import restore
    from tfdet.export import saved_model, verify
    from tfdet.export.predictor import CheckpointPredictor
    from tfdet.ops import native

    if args.native_ops:
        native.library()
    if args.num_images < 1:
        raise UserError(f"--num_images {args.num_images} must be at least 1")
    saved_model.check_target(args.output)
    restore.check_choice(args)
    with flags.configure(args, from_run=True).active():
        console = Console(soft_wrap=True)
        images, origin = _images(args)
        resize = restore.evaluation_resize()
        trained, what = restore.chosen(args)
        implementation = "native" if args.native_ops else "python"
        saved_model.export(trained.detector, args.output, resize, trained.classes, trained.category_ids, implementation)
        console.print(
            f"{escape(what)} written to {escape(args.output)}: signatures "
            f"{', '.join(saved_model.SIGNATURES)} (image_bytes is also serving_default), short side "
            f"{resize.short_side}, long side at most {resize.long_side}",
            highlight=False,
        )
        box_tolerance = verify.BOX_TOLERANCE if args.box_tolerance is None else args.box_tolerance
        score_tolerance = verify.SCORE_TOLERANCE if args.score_tolerance is None else args.score_tolerance
        with native.implementation(implementation):
            predictor = CheckpointPredictor(trained.detector, resize, trained.classes, trained.category_ids)
            differences = verify.verify(predictor, args.output, images, box_tolerance, score_tolerance)
        console.print(verify.table(differences, box_tolerance, score_tolerance))
        if not all(entry.passed(box_tolerance, score_tolerance) for entry in differences):
            console.print(
                f"[red]the export in {escape(args.output)} does NOT find what the checkpoint finds: do not use it"
            )
            return EXIT_CHECK_FAILED
        if not differences[0].num_detections:
            console.print(
                f"[yellow]warning: nothing was compared, for there is no detection on {escape(origin)}: "
                "give images with objects by --images"
            )
        else:
            console.print(f"the export finds what the checkpoint finds on {escape(origin)}")
        return EXIT_OK


def _images(args: argparse.Namespace) -> tuple[list[bytes], str]:
    """Encoded images for the check, and in words where they come from."""
    from tfdet.errors import UserError
    from tfdet.evaluate import restore
    from tfdet.export import verify
    from tfdet.export.image_files import find_images

    if args.images:
        return verify.encode_files(find_images(args.images)[: args.num_images]), "the images given"
    folder = restore.evaluation_folder()
    if folder:
        try:
            return verify.images_of_records(folder, args.num_images), f"images of {folder}"
        except UserError:  # by now the data set is elsewhere; the export does not need it
            if args.eval_data:
                raise
    return verify.synthetic_images(args.num_images), "drawn images"
