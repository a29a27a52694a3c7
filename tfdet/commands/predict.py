"""Find objects on photos, videos and cameras; write annotated pictures and what was found.

Takes image files, folders, patterns, addresses (http, https), videos and cameras (camera:0), and a training run
(--model_dir), an exported model (--saved_model) or published weights (--weights=NAME, see `tfdet weights`); weights
of a file need --gin_file beside.
An image that cannot be read is named and skipped; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import collections

from tfdet.commands import flags
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK

TAKES_ADDRESSES = ("images",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image file, folder, pattern like 'in/**/*.jpg', address, video, or camera:0",
    )
    flags.add_detecting_model(parser)
    parser.add_argument(
        "--output", default="predictions", metavar="FOLDER", help="folder for the results (default: predictions)"
    )
    parser.add_argument(
        "--format",
        default="coco",
        metavar="LIST",
        help="what is written, commas between: coco (detections.json; default), yolo (labels/*.txt, boxes or "
        "outlines), voc (annotations/*.xml), csv (detections.csv)",
    )
    parser.add_argument("--yolo_scores", action="store_true", help="the score at the end of each line of --format yolo")
    parser.add_argument("--no_pictures", action="store_true", help="write no annotated pictures and videos")
    flags.add_finding(parser)
    parser.add_argument(
        "--frame_stride", type=int, default=1, metavar="N", help="of a video look at every N-th frame (default 1)"
    )
    parser.add_argument("--max_frames", type=int, metavar="N", help="look at N frames of each video or camera at most")
    flags.add_max_pixels(parser, "larger ones are named and skipped")


def run(args: argparse.Namespace) -> int:
    """Predicts and writes."""
    from tfdet.arguments import whole_number
    from tfdet.data.listing import count_endings
    from tfdet.predict.files import Output, predict_files
    from tfdet.predict.sources import find_images
    from tfdet.predict.writers import check_formats
    from tfdet.terminal import Console, shown

    flags.check_detecting_model(args)
    formats = check_formats([name.strip() for name in args.format.split(",")])
    finding = flags.finding(args)
    stride = whole_number("--frame_stride", args.frame_stride, 1)
    most = None if args.max_frames is None else whole_number("--max_frames", args.max_frames, 1)
    passed_over: collections.Counter[str] = collections.Counter()
    unmatched: list[str] = []
    files = find_images(args.images, passed_over, unmatched)
    console = Console()
    for why in unmatched:
        console.print(shown(why, "yellow"), soft_wrap=True)
    if passed_over:
        line = f"passed over: {count_endings(passed_over)} (a file that is named itself is read)"
        console.print(line, highlight=False, soft_wrap=True)
    finder = flags.load_detecting_model(args).finder(**finding)
    output = Output(args.output, formats, not args.no_pictures, args.yolo_scores, stride, most, args.max_pixels)
    summary = predict_files(finder, files, output, console)
    objects = f"{summary.num_detections} object{'' if summary.num_detections == 1 else 's'}"
    images = f"{summary.num_images} image{'' if summary.num_images == 1 else 's'}"
    speed = f", {summary.images_per_second:.1f} images/s" if summary.images_per_second else ""
    console.print(f"{images}, {objects} from {finder.thresholds.describe()}{speed}", highlight=False)
    console.print(shown(f"in {args.output}: {', '.join(summary.written)}"))
    if summary.failed:
        what = f"{len(summary.failed)} of {len(files)} could not be read (named above)"
        console.print(what, style="red", highlight=False)
        return EXIT_CHECK_FAILED
    return EXIT_OK
