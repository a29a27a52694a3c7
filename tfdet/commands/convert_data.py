"""Turns COCO json, Pascal VOC folders or finished records into a data set folder; or checks one."""

from __future__ import annotations

import argparse
import pathlib

from tfdet.commands import flags

DESCRIPTION = "Convert COCO or Pascal VOC annotations to sharded TFRecords with a manifest."
EXAMPLES = """examples:
  # COCO 2017
  convert_data --coco annotations/instances_train2017.json train2017 --output=data/coco_train
  # COCO 2014, the 35k split: two annotation files, one data set
  convert_data --coco instances_train2014.json train2014 \\
               --coco instances_valminusminival2014.json val2014 --output=data/coco_trainval35k
  # Pascal VOC folder, one split
  convert_data --voc VOC2012 --split train --output=data/voc_train
  # records written by TF Model Garden's create_coco_tf_record
  convert_data --from_records '/data/coco/train-*.tfrecord' --categories instances_train2017.json --output=data/coco
  # is a data set whole?
  convert_data --check data/coco_train
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    kind = parser.add_argument_group("what to convert (one of)")
    kind.add_argument(
        "--coco", nargs=2, action="append", metavar=("JSON", "IMAGES"),
        help="annotation file and its image folder; may be given several times: the files make one set",
    )  # fmt: skip
    kind.add_argument("--voc", action="append", metavar="FOLDER", help="Pascal VOC folder; may be given several times")
    kind.add_argument("--from_records", metavar="PATTERN", help="TFRecord files in TF Model Garden's detection schema")
    kind.add_argument("--check", metavar="DATA_DIR", help="check a data set: checksums, every record, every image")
    parser.add_argument(
        "--split", action="append", metavar="LIST",
        help="with --voc: name in ImageSets/Main or path of a list, once for each --voc; without: all annotations",
    )  # fmt: skip
    parser.add_argument(
        "--difficult", choices=("ignore", "keep"), default="ignore",
        help="with --voc: objects marked difficult are ignored in training and evaluation, or kept (default: ignore)",
    )  # fmt: skip
    parser.add_argument(
        "--categories", metavar="FILE",
        help="with --voc or --from_records: the classes, a COCO json or a text file with one name a line",
    )  # fmt: skip
    parser.add_argument(
        "--renumber", action="store_true",
        help="with --coco: number the images 1, 2, ... in their order, for files that give one id to two images",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DATA_DIR", help="data set folder to make")
    parser.add_argument("--name", help="name of the data set (default: the name of the folder)")
    parser.add_argument("--num_shards", type=int, help="number of record files (default: one for every 512 images)")
    parser.add_argument("--num_workers", type=int, help="worker processes (default: the CPUs; 0: none)")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 and write nothing when anything is wrong with the data"
    )
    parser.add_argument(
        "--allow_outside", action="store_true",
        help="take image files outside of the image folder, which annotations name by an absolute path, .. or a link",
    )  # fmt: skip
    flags.add_max_pixels(parser, "larger ones are left out")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tfdet.data.problems import ProblemReport
    from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError
    from tfdet.terminal import Console

    console = Console()
    given = [flag for flag in ("coco", "voc", "from_records", "check") if getattr(args, flag)]
    if len(given) != 1:
        raise UserError("give exactly one of --coco, --voc, --from_records, --check")
    if args.check:
        return _check(args.check, console)
    if not args.output:
        raise UserError("give --output=DATA_DIR, the data set folder to make")
    if args.num_workers is not None and args.num_workers < 0:
        raise UserError(f"--num_workers {args.num_workers} must not be negative")

    from tfdet.data.convert import StrictError

    report = ProblemReport()
    try:
        manifest = _convert(args, report, console)
    except StrictError:
        report.print_summary(console, shown_per_kind=1000)
        console.print("--strict: nothing was written. Put the findings right or convert without --strict.", style="red")
        return EXIT_CHECK_FAILED
    except UserError:
        if report.problems:
            report.print_summary(console)
        raise
    report.print_summary(console, used=_what_was_used(manifest))
    print_manifest(manifest, console)
    if not manifest.num_boxes:
        console.print(
            f"No box to train on in {manifest.num_images} images. The data set was written and can be predicted on; "
            "nothing can be trained or measured with it. The findings say what became of the boxes.",
            style="red",
        )
        return EXIT_CHECK_FAILED
    return EXIT_OK


def _what_was_used(manifest) -> str:
    """What became of images and boxes, where there is no finding."""
    if not manifest.num_crowd and not manifest.num_images_without_boxes:
        return "every image and every box was used"
    return (
        f"of {manifest.num_images} images, {manifest.num_images_without_boxes} have no box to train on; "
        f"{manifest.num_crowd} crowd regions are not trained on"
    )


def _convert(args, report, console):
    from tfdet.data.coco import read_categories, read_coco
    from tfdet.data.listing import note_unlisted
    from tfdet.data.outside import leave_out_outside
    from tfdet.data.voc import read_voc
    from tfdet.errors import UserError

    def inside(annotations, folders):
        return annotations if args.allow_outside else leave_out_outside(annotations, folders, report)

    if args.renumber and not args.coco:
        raise UserError("--renumber is for --coco")
    name = args.name or pathlib.Path(args.output).absolute().name
    categories = read_categories(args.categories) if args.categories else None
    if args.from_records:
        from tfdet.data.scan import manifest_from_records

        return manifest_from_records(
            args.from_records, args.output, name, report, categories, args.strict, args.overwrite, console,
            args.max_pixels,
        )  # fmt: skip
    if args.coco:
        if categories:
            raise UserError("--categories is for --voc and --from_records; COCO files bring their own")
        source = "COCO: " + ", ".join(pathlib.Path(file).name for file, _ in args.coco)
        annotations = inside(read_coco(args.coco, report, args.renumber), [images for _, images in args.coco])
        note_unlisted(annotations.images, report, [file for file, _ in args.coco])
    else:
        splits = args.split or [None] * len(args.voc)
        if len(splits) != len(args.voc):
            raise UserError(f"give one --split for each --voc: there are {len(args.voc)} --voc, {len(splits)} --split")
        pairs = list(zip(args.voc, splits, strict=True))
        source = "Pascal VOC: " + ", ".join(f"{pathlib.Path(folder).name} {split or 'all'}" for folder, split in pairs)
        annotations = inside(read_voc(pairs, report, categories, args.difficult), args.voc)

    from tfdet.data.convert import convert

    return convert(
        annotations, args.output, name, source, report, args.num_shards, args.num_workers, args.strict, args.overwrite,
        console, args.max_pixels,
    )  # fmt: skip


def print_manifest(manifest, console) -> None:
    """Prints what a data set holds, and its boxes by class."""
    from rich.table import Table

    table = Table(title=f"Data set {manifest.folder}", show_header=False)
    landscape, portrait = manifest.num_trainable_landscape, manifest.num_trainable_portrait
    size = sum(shard.bytes for shard in manifest.shards)
    for row in (
        ("images", f"{manifest.num_images}"),
        ("  to train on", f"{landscape + portrait} ({landscape} landscape, {portrait} portrait or square)"),
        ("boxes to train on", f"{manifest.num_boxes}"),
        ("  with a mask", f"{manifest.num_masks}"),
        ("crowd regions", f"{manifest.num_crowd} ({manifest.num_crowd_masks} with a mask)"),
        ("classes", f"{manifest.num_classes}"),
        ("shards", f"{len(manifest.shards)} ({size / 1e6:.1f} MB)"),
    ):
        table.add_row(*row)
    console.print(table)
    counts = sorted(zip(manifest.boxes_per_class, manifest.classes, strict=True), reverse=True)
    shown = ", ".join(f"{name} {count}" for count, name in counts[:20])
    more = f", and {len(counts) - 20} more" if len(counts) > 20 else ""
    console.print(f"boxes by class: {shown}{more}", highlight=False)


def _check(folder: str, console) -> int:
    from tfdet.data.doctor import diagnose
    from tfdet.data.manifest import Manifest
    from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK
    from tfdet.text import one_line

    problems = diagnose(folder, checksums=True, console=console)
    for problem in problems:
        console.print(one_line(str(problem)), highlight=False, soft_wrap=True)
    if problems:
        console.print(f"{len(problems)} problem(s) in {folder}", style="red")
        return EXIT_CHECK_FAILED
    manifest = Manifest.load(folder)
    masks = f"{manifest.num_masks} of {manifest.num_boxes} objects have a mask"
    console.print(f"{folder} is whole: every shard, record and image was read; {masks}.", style="green")
    return EXIT_OK
