"""Write one HTML page of a data set or of predictions, to look through in a browser.

Shows pictures with their labels, filters by class, size, problem and score, counts by class and size, boxes that cannot
be what was meant, and pictures that are in two splits. The page is one file that opens without a network.
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags

EXAMPLES = """examples:
  tfdet browse data/train                                # browse.html
  tfdet browse data/train data/val --output=data.html    # two splits: is a picture in both?
  tfdet browse --predictions=predictions/detections.json
  tfdet browse data/val --predictions=results.json       # COCO result records beside the labels
  tfdet browse data/train --augmented --gin_file=my_row.gin   # what training sees of the images
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.epilog = EXAMPLES
    parser.add_argument("data", nargs="*", metavar="DATA", help="data set folder; several are splits of one set")
    parser.add_argument(
        "--predictions", metavar="JSON", help="detections.json of tfdet predict; with DATA also COCO result records"
    )
    parser.add_argument("--output", default="browse.html", metavar="PAGE", help="the page (default: browse.html)")
    parser.add_argument(
        "--limit", type=int, metavar="N",
        help="the most pictures on the page: those with problems first, some of every class (default: 300); with "
        "--augmented so many images (default: 8)",
    )  # fmt: skip
    parser.add_argument(
        "--score_threshold", type=float, default=0.3, metavar="X",
        help="detections below it are not counted, and at first not shown (default: 0.3)",
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="FOLDER", help="pictures of the predictions, where they are no longer where the file says"
    )
    parser.add_argument(
        "--picture_size", type=int, metavar="PIXELS",
        help="longer side of the pictures (default: 640, less where many are shown)",
    )  # fmt: skip
    parser.add_argument("--no_compare", action="store_true", help="do not look for pictures that are nearly the same")
    group = parser.add_argument_group("what training sees", "docs/augmentation.md describes the augmentations")
    group.add_argument(
        "--augmented", action="store_true",
        help="show images of DATA as the training input of the configuration gives them, several times each",
    )  # fmt: skip
    group.add_argument("--draws", type=int, default=4, metavar="N", help="times that each is drawn (default: 4)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (default: 0)")
    flags.add_config(group)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    import os

    from tfdet.errors import EXIT_OK, UserError
    from tfdet.report.browse.run import DEFAULT_LIMIT, browse
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    if args.augmented:
        return _augmented(args, console)
    if args.gin_file or args.gin_param:
        raise UserError("--gin_file and --gin_param go with --augmented: they say what training sees of the images")
    made = browse(
        args.data,
        args.predictions,
        args.output,
        limit=DEFAULT_LIMIT if args.limit is None else args.limit,
        score_threshold=args.score_threshold,
        images=args.images,
        picture_size=args.picture_size,
        compare=not args.no_compare,
        console=console,
    )
    for reason in made.suspicions:
        console.print(reason, style="yellow", highlight=False)
    if made.num_near_across:
        console.print(
            f"in two splits, or nearly so: {made.num_near_across}. What is measured on such pictures flatters.",
            style="yellow",
            highlight=False,
        )
    for kind, count in made.problems.items():
        console.print(f"{count:>7} {kind}", highlight=False)
    if made.num_others:
        console.print(f"{made.num_others} detections belong to no picture of the data", style="yellow", highlight=False)
    size = os.path.getsize(made.path) / 1e6
    which = (
        f"all {made.num_shown}" if made.num_shown == made.num_pictures else f"{made.num_shown} of {made.num_pictures}"
    )
    console.print(f"{made.path} shows {which} pictures ({size:.1f} MB): open it in a browser", highlight=False)
    return EXIT_OK


def _augmented(args: argparse.Namespace, console) -> int:
    """The contact sheet of a training input."""
    import os

    from tfdet.errors import EXIT_OK, UserError

    if len(args.data) != 1 or args.predictions:
        raise UserError("--augmented shows one data set: give its folder, and no predictions")
    from tfdet.data.inputs import TrainInput
    from tfdet.report.browse.augmented import DEFAULT_IMAGES, browse_augmented

    args.train_data = args.data[0]
    configuration = flags.configure(args)
    with configuration.active():
        train_input = configuration.build(TrainInput)
        listed = browse_augmented(
            train_input,
            args.output,
            images=DEFAULT_IMAGES if args.limit is None else args.limit,
            draws=args.draws,
            seed=args.seed,
            picture_size=args.picture_size,
        )
    for line in listed or ["no augmentation is on"]:
        console.print(line, highlight=False)
    size = os.path.getsize(args.output) / 1e6
    console.print(f"{args.output} shows what training sees ({size:.1f} MB): open it in a browser", highlight=False)
    return EXIT_OK
