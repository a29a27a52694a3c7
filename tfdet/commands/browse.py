"""Write one HTML page of a data set or of predictions, to look through in a browser.

Shows pictures with their labels, filters by class, size, problem and score, counts by class and size, boxes that cannot
be what was meant, and pictures that are in two splits. The page is one file that opens without a network.
"""

from __future__ import annotations

import argparse

EXAMPLES = """examples:
  tfdet browse data/train                                # browse.html
  tfdet browse data/train data/val --output=data.html    # two splits: is a picture in both?
  tfdet browse --predictions=predictions/detections.json
  tfdet browse data/val --predictions=results.json       # COCO result records beside the labels
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
        "--limit", type=int, default=300, metavar="N",
        help="the most pictures on the page: those with problems first, some of every class (default: 300)",
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


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    import os

    from tfdet.errors import EXIT_OK
    from tfdet.report.browse.run import browse
    from tfdet.terminal import Console

    console = Console(soft_wrap=True)
    made = browse(
        args.data,
        args.predictions,
        args.output,
        limit=args.limit,
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
