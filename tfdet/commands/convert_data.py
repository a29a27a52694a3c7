"""Turns photos and annotations of any known format, or finished records, into data set folders; or checks one."""

from __future__ import annotations

import argparse
import pathlib
import re

from tfdet.commands import flags
from tfdet.data.formats import FORMATS

DESCRIPTION = "Make a data set to train on of photos and their annotations."
EXAMPLES = """examples:
  # a folder of photos and annotations in any format of docs/data.md; every
  # fifth image for validation: makes data/train and data/val
  tfdet convert_data photos/ --output=data --val_fraction=0.2
  # annotations elsewhere than the images
  tfdet convert_data labels.json --images=photos --output=data/train
  # frames of one video stay in one split: cam1_00012.jpg, cam1_00013.jpg
  tfdet convert_data photos/ --output=data --val_fraction=0.2 \\
    --group_by='^[^_]+'
  # on four machines, then on one: the very data set of one run
  tfdet convert_data photos/ --output=data/train --part=1/4
  tfdet convert_data --merge --output=data/train
  # is a data set whole?
  tfdet convert_data --check data/train
  # COCO 2014, the 35k split: two annotation files, one data set
  tfdet convert_data --coco instances_train2014.json train2014 \\
    --coco instances_valminusminival2014.json val2014 \\
    --output=data/coco_trainval35k
  # records written by TF Model Garden's create_coco_tf_record
  tfdet convert_data --from_records '/data/coco/train-*.tfrecord' \\
    --categories instances_train2017.json --output=data/coco
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    kind = parser.add_argument_group("what to convert")
    kind.add_argument("source", nargs="?", help="folder of photos and annotations, or an annotation file")
    kind.add_argument("--images", metavar="FOLDER", help="the images, where they are not below SOURCE")
    kind.add_argument("--annotations", metavar="PATH", help="folder or file of the annotations, if not below SOURCE")
    kind.add_argument(
        "--format", choices=FORMATS, metavar="NAME", help=f"one of {', '.join(FORMATS)} (default: what is recognised)"
    )
    kind.add_argument(
        "--categories", metavar="FILE",
        help="the classes, a text file with one name a line or a COCO json, for formats without a list of classes",
    )  # fmt: skip
    kind.add_argument(
        "--unlabelled", choices=("keep", "leave_out"), default="keep",
        help="images that no annotation names: have no object, or are left out (default: keep)",
    )  # fmt: skip
    kind.add_argument(
        "--coordinates", choices=("auto", "pixels", "fractions"), default="auto",
        help="of boxes in CSV: pixels, or parts of the image (default: by the largest)",
    )  # fmt: skip
    kind.add_argument(
        "--difficult", choices=("ignore", "keep"), default="ignore",
        help="objects that VOC marks difficult are ignored in training and evaluation, or kept (default: ignore)",
    )  # fmt: skip
    kind.add_argument(
        "--renumber", action="store_true",
        help="number the images of COCO files 1, 2, ... in their order, for files that give one id to two images",
    )  # fmt: skip
    splits = parser.add_argument_group("training, validation, test")
    splits.add_argument("--val_fraction", type=float, default=0.0, metavar="F", help="of the images, for OUTPUT/val")
    splits.add_argument("--test_fraction", type=float, default=0.0, metavar="F", help="of the images, for OUTPUT/test")
    splits.add_argument(
        "--group_by", metavar="REGEX",
        help="images in whose names it finds the same text stay together: frames of a video",
    )  # fmt: skip
    splits.add_argument(
        "--seed", type=int, default=0, help="of the division; alike for any order of files (default: 0)"
    )
    splits.add_argument(
        "--split", action="append", metavar="NAME",
        help="of a source with splits of its own: train, val or test alone, or all in one set (default: each its own); "
        "with --voc a name in ImageSets/Main or the path of a list, once for each --voc",
    )  # fmt: skip
    machines = parser.add_argument_group("on several machines")
    machines.add_argument(
        "--part", metavar="K/N",
        help="convert the Kth of N parts alone, each by the same command, perhaps elsewhere: makes OUTPUT.parts",
    )  # fmt: skip
    machines.add_argument(
        "--merge", action="store_true", help="make the data sets of all parts in OUTPUT.parts, as one run makes them"
    )
    others = parser.add_argument_group("several sources in one set, records, checks")
    others.add_argument(
        "--coco", nargs=2, action="append", metavar=("JSON", "IMAGES"),
        help="annotation file and its image folder; may be given several times: the files make one set",
    )  # fmt: skip
    others.add_argument(
        "--voc", action="append", metavar="FOLDER", help="Pascal VOC folder; may be given several times"
    )
    others.add_argument(
        "--from_records", metavar="PATTERN", help="TFRecord files in TF Model Garden's detection schema"
    )  # fmt: skip
    others.add_argument("--check", metavar="DATA_DIR", help="check a data set: checksums, every record, every image")
    parser.add_argument(
        "--output", metavar="DATA_DIR", help="data set folder to make; with splits the folder of their folders"
    )
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
    from tfdet.errors import EXIT_CHECK_FAILED, UserError
    from tfdet.terminal import Console

    console = Console()
    positional = args.source or args.annotations
    given = [flag for flag in ("coco", "voc", "from_records", "check", "merge") if getattr(args, flag)]
    if len(given) + bool(positional) != 1:
        raise UserError(
            "give exactly one of the folder of your photos and annotations, --coco, --voc, --from_records, --check, "
            "--merge"
        )
    if args.check:
        return _check(args.check, console)
    if not args.output:
        raise UserError("give --output=DATA_DIR, the data set folder to make")
    if args.num_workers is not None and args.num_workers < 0:
        raise UserError(f"--num_workers {args.num_workers} must not be negative")

    from tfdet.data.convert import StrictError

    report = ProblemReport()
    try:
        manifests = _convert(args, report, console)
    except StrictError:
        report.print_summary(console, shown_per_kind=1000)
        console.print("--strict: nothing was written. Put the findings right or convert without --strict.", style="red")
        return EXIT_CHECK_FAILED
    except UserError:
        if report.problems:
            report.print_summary(console)
        raise
    if args.part:
        return _say_what_part(args, manifests, report, console)
    report.print_summary(console, used=_what_was_used(list(manifests.values())))
    return _say_what_was_made(manifests, args.output, console)


def _say_what_part(args, folders, report, console) -> int:
    from tfdet.errors import EXIT_OK

    report.print_summary(console)
    places = ", ".join(map(str, folders.values()))
    console.print(f"Part {args.part} is in {places}", highlight=False, soft_wrap=True)
    console.print(
        f"When all parts are there: tfdet convert_data --merge --output={args.output}", highlight=False, soft_wrap=True
    )
    return EXIT_OK


def _say_what_was_made(manifests, output, console) -> int:
    from tfdet.data.conversion import split_lines
    from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK

    if len(manifests) == 1:
        print_manifest(*manifests.values(), console)
    else:
        for line in split_lines(manifests):
            console.print(line, highlight=False)
        folders = ", ".join(str(pathlib.Path(output) / name) for name in manifests)
        console.print(f"Data sets: {folders}", highlight=False)
    code = EXIT_OK
    for manifest in manifests.values():
        if not manifest.num_boxes:
            console.print(
                f"No box to train on in {manifest.num_images} images of {manifest.folder}. The set was written "
                "and can be predicted on; nothing can be trained or measured with it. The findings say what became "
                "of the boxes.",
                style="red",
            )
            code = EXIT_CHECK_FAILED
    return code


def _what_was_used(manifests) -> str:
    """What became of images and boxes, where there is no finding."""
    num_crowd = sum(manifest.num_crowd for manifest in manifests)
    without = sum(manifest.num_images_without_boxes for manifest in manifests)
    if not num_crowd and not without:
        return "every image and every box was used"
    return (
        f"of {sum(manifest.num_images for manifest in manifests)} images, {without} have no box to train on; "
        f"{num_crowd} crowd regions are not trained on"
    )


def _convert(args, report, console):
    """The manifests of the sets that were made, by the names of the splits; of a part its folders."""
    from tfdet.data import parts
    from tfdet.data.conversion import ALL, Division, read_source, source_words, splits_of, write_sets
    from tfdet.data.formats.recognise import recognise
    from tfdet.errors import UserError

    if args.renumber and (args.voc or args.from_records):
        raise UserError("--renumber is for COCO files")
    if args.merge:
        if args.part:
            raise UserError("--merge is for when all parts are there: leave --part out")
        return parts.merge(args.output, report, args.strict, args.overwrite, console)
    part = parts.Part.parse(args.part) if args.part else None
    if args.from_records:
        return {ALL: _from_records(args.from_records, args, report, console)}
    if args.coco or args.voc:
        annotations, source = _read_named(args, report)
        division = Division(args.val_fraction, args.test_fraction, args.group_by, args.seed)
    else:
        found = recognise(args.source, args.format, args.images, args.annotations)
        console.print(found.words, highlight=False)
        if found.format == "records":
            return {ALL: _from_records(_of_one_split(found), args, report, console)}
        if args.split and len(args.split) > 1:
            raise UserError("give --split once: the names of several splits are for several --voc")
        split = args.split[0] if args.split else None
        division = Division(args.val_fraction, args.test_fraction, args.group_by, args.seed, split)
        annotations = read_source(
            found, report, categories=args.categories, difficult=args.difficult, coordinates=args.coordinates,
            renumber=args.renumber, unlabelled=args.unlabelled, allow_outside=args.allow_outside,
        )  # fmt: skip
        source = source_words(found)
    return write_sets(
        splits_of(annotations, division, report), args.output, source, report, name=args.name,
        num_shards=args.num_shards, num_workers=args.num_workers, strict=args.strict, overwrite=args.overwrite,
        max_pixels=args.max_pixels, console=console, part=part,
    )  # fmt: skip


def _of_one_split(found):
    """The files of records, where they are of one split."""
    from tfdet.data.formats.source import split_of_word
    from tfdet.errors import UserError

    files, tree = found.source.annotations, found.source.tree
    splits = sorted({tree.split_of(file) or split_of_word(re.split(r"[-_.]", file.name)[0]) for file in files} - {""})
    if len(splits) > 1:
        raise UserError(
            f"{tree.roots[0]} holds records of {', '.join(splits)}: convert each by itself, as with --from_records "
            f"'{files[0].parent}/*{files[0].suffix}'"
        )
    return files


def _from_records(pattern, args, report, console):
    from tfdet.data.formats.coco import read_categories
    from tfdet.data.scan import manifest_from_records
    from tfdet.errors import UserError

    if args.part:
        raise UserError("records stay as they are: --part is for photos and annotations")
    if args.val_fraction or args.test_fraction:
        raise UserError("records stay as they are: --val_fraction and --test_fraction are for photos and annotations")
    categories = read_categories(args.categories) if args.categories else None
    name = args.name or pathlib.Path(args.output).absolute().name
    return manifest_from_records(
        pattern, args.output, name, report, categories, args.strict, args.overwrite, console, args.max_pixels,
        args.num_shards, args.num_workers,
    )  # fmt: skip


def _read_named(args, report):
    """What --coco or --voc name, and in words where it is from."""
    from tfdet.data.formats.coco import read_categories, read_coco
    from tfdet.data.formats.voc import read_voc
    from tfdet.data.listing import note_unlisted
    from tfdet.data.outside import leave_out_outside
    from tfdet.errors import UserError

    def inside(annotations, folders):
        return annotations if args.allow_outside else leave_out_outside(annotations, folders, report)

    if args.images or args.annotations or args.format:
        raise UserError("--images, --annotations and --format are for a folder or file that is given without a flag")
    if args.coco:
        if args.categories:
            raise UserError("--categories is for formats without a list of classes; COCO files bring their own")
        source = "COCO: " + ", ".join(pathlib.Path(file).name for file, _ in args.coco)
        annotations = inside(read_coco(args.coco, report, args.renumber), [images for _, images in args.coco])
        note_unlisted(annotations.images, report, [file for file, _ in args.coco])
        return annotations, source
    splits = args.split or [None] * len(args.voc)
    if len(splits) != len(args.voc):
        raise UserError(f"give one --split for each --voc: there are {len(args.voc)} --voc, {len(splits)} --split")
    pairs = list(zip(args.voc, splits, strict=True))
    source = "Pascal VOC: " + ", ".join(f"{pathlib.Path(folder).name} {split or 'all'}" for folder, split in pairs)
    categories = read_categories(args.categories) if args.categories else None
    return inside(read_voc(pairs, report, categories, args.difficult), args.voc), source


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
