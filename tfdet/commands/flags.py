"""Flags that several commands share, and the configuration they lead to."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from tfdet import config, model
from tfdet.arguments import AUTO, MAX_PIXELS, folders, max_pixels
from tfdet.config.files import RUN_FILE, did_you_mean, gin_configs_folder
from tfdet.config.lines import Line
from tfdet.data.published.table import maker_of
from tfdet.errors import UserError
from tfdet.exported_model import DetectingModel, ExportedModel, Finding
from tfdet.files import is_address

DATA_FLAGS = {"train_data": "TrainInput.data_dir", "eval_data": "EvalInput.data_dir"}  # flag -> what it sets


VERBOSE = "--verbose"
"""Of every command."""


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Adds `--verbose`: TensorFlow's start-up lines (`args.verbose`, bool)."""
    parser.add_argument(VERBOSE, action="store_true", help="show all that TensorFlow says of itself")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds `--gin_file` and `--gin_param`, both repeatable: `args.gin_file`, `args.gin_param` are lists of str."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file, as a path or as a name in gin_configs; may be given several times, later ones override",
    )
    parser.add_argument(
        "--preset",
        action="append",
        dest="gin_file",
        type=_preset,
        metavar="NAME",
        help="a configuration for data of your own, in place of --gin_file: own_data_cpu, own_data_gpu, "
        "own_data_masks, own_data_gpu_masks",
    )
    parser.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="BINDING",
        help='overrides one parameter, such as "Trainer.steps = 100"; may be given several times',
    )
    add_allow_imports(parser)


def _preset(name: str) -> str:
    """The gin file of a preset; `UserError` where there is none of the name."""
    known = sorted(path.stem for path in gin_configs_folder().glob("own_data/*.gin"))
    if name not in known:
        raise UserError(
            f"--preset {name}: there is no such preset.{did_you_mean(name, known)} There are {', '.join(known)}"
        )
    return f"own_data/{name}"


def add_allow_imports(parser: argparse.ArgumentParser) -> None:
    """Adds `--allow_imports`: trust in the configuration of a run (`args.allow_imports`, bool)."""
    parser.add_argument(
        "--allow_imports",
        action="store_true",
        help="let a run's own config.gin import modules that are not tfdet's: for runs whose author you trust",
    )


def add_model_dir(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Adds `--model_dir`: the folder of a run (`args.model_dir`, str or None)."""
    parser.add_argument(
        "--model_dir",
        required=required,
        metavar="FOLDER",
        help="folder of the run: checkpoints, configuration, event files for TensorBoard",
    )


def add_max_pixels(parser: argparse.ArgumentParser, beyond: str) -> None:
    """Adds `--max_pixels` (`args.max_pixels`, int); `beyond` says what becomes of larger images."""

    def count(text: str) -> int:  # argparse calls it by its name: "invalid count value"
        return max_pixels(int(text))

    parser.add_argument(
        "--max_pixels",
        type=count,
        default=MAX_PIXELS,
        metavar="N",
        help=f"most pixels of an image, height times width; {beyond} (default {MAX_PIXELS})",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint` and `--raw_weights`: which weights of a run (`args.checkpoint`, str or None, and bool)."""
    parser.add_argument(
        "--checkpoint",
        metavar="WHICH",
        help="of a run: best (of the evaluations during training), last, or a step; default: best, else last",
    )
    parser.add_argument(
        "--raw_weights",
        action="store_true",
        help="take the weights as trained where the run keeps their moving average (Trainer.ema_decay)",
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds `--weights`: published weights or a file in place of a run (`args.weights`, str or None)."""
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="in place of a run: published weights such as torchvision/fasterrcnn_resnet50_fpn, which are fetched and "
        "have their own configuration (`tfdet weights` lists them); or a file of SimpleDet, Detectron2 or torchvision, "
        "or a converted one, for the detector of --gin_file",
    )


def add_detecting_model(parser: argparse.ArgumentParser) -> None:
    """Adds what names a model that detects: `--model_dir`, `--saved_model` or `--weights`, and what belongs to them."""
    add_model_dir(parser, required=False)
    parser.add_argument("--saved_model", metavar="FOLDER", help="an exported model, in place of --model_dir")
    add_weights(parser)
    add_config(parser)
    add_checkpoint(parser)


def check_detecting_model(args: argparse.Namespace) -> None:
    """UserError where the flags of `add_detecting_model` name no model, or several, or what does not go together."""
    if sum(map(bool, (args.model_dir, args.saved_model, args.weights))) != 1:
        raise UserError(
            "give one of --model_dir (a training run), --saved_model (an exported model) and --weights (a published "
            "name or a file)"
        )
    if args.saved_model and (args.gin_file or args.gin_param or args.checkpoint):
        raise UserError("--saved_model holds its own configuration: leave out --gin_file, --gin_param and --checkpoint")
    if args.saved_model and args.raw_weights:
        raise UserError("--saved_model holds its own weights: leave out --raw_weights")


def load_detecting_model(args: argparse.Namespace) -> DetectingModel:
    """The model that the flags of `add_detecting_model` name, checked; `UserError` where there is none."""
    return ExportedModel(args.saved_model) if args.saved_model else load(args)


def add_finding(parser: argparse.ArgumentParser, score: float = 0.3) -> None:
    """Adds how objects are looked for and which count: scores and tiles; `finding` reads it.

    Args:
        parser: of the command.
        score: the default of `--score_threshold`.
    """
    parser.add_argument(
        "--score_threshold",
        type=float,
        default=score,
        metavar="X",
        help=f"leave out objects whose score is below it (default {score})",
    )
    parser.add_argument(
        "--thresholds",
        metavar="PATH",
        help="thresholds of single classes: a thresholds.json, or the word report for what `tfdet report` wrote for "
        "the run; --score_threshold is that of the others",
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="detect on larger images by overlapping tiles of this side, for objects that are small in a large photo",
    )
    parser.add_argument(
        "--tile_overlap",
        type=float,
        default=0.2,
        metavar="X",
        help="of neighbouring tiles, as a part of their side (default 0.2)",
    )
    parser.add_argument(
        "--tile_merge",
        choices=["nms", "wbf"],
        default="nms",
        help="of what two tiles found: the best box (nms, default) or their weighted mean (wbf)",
    )
    parser.add_argument(
        "--tile_full_image", action="store_true", help="detect on the whole image too, for objects larger than a tile"
    )


def finding(args: argparse.Namespace) -> Finding:
    """What the flags of `add_finding` say, for `predict` and `finder` of a model; checked there, but for the score."""
    if not 0 <= args.score_threshold <= 1:
        raise UserError(f"--score_threshold {args.score_threshold} must be from 0 to 1")
    return {
        "score_threshold": args.score_threshold,
        "thresholds": args.thresholds,
        "tile": args.tile,
        "tile_overlap": args.tile_overlap,
        "tile_merge": args.tile_merge,
        "tile_full_image": args.tile_full_image,
    }


def add_train_data(parser: argparse.ArgumentParser) -> None:
    """Adds `--train_data`, repeatable: sets TrainInput.data_dir (`args.train_data`, list of str or None)."""
    parser.add_argument(
        "--train_data",
        action="append",
        metavar="FOLDER",
        help="data set to train on, a folder or an address such as gs://bucket/coco: sets TrainInput.data_dir; given "
        "several times the sets are mixed (docs/data.md)",
    )


def add_eval_data(parser: argparse.ArgumentParser) -> None:
    """Adds `--eval_data`: sets EvalInput.data_dir (`args.eval_data`, str or None)."""
    words = "data set to evaluate on, a folder or an address: sets EvalInput.data_dir"
    parser.add_argument("--eval_data", metavar="FOLDER", help=words)


EVERYDAY = ("steps", "epochs", "batch", "lr", "image_size", "classes", "seed", "patience", "sinks")
"""The flags of `add_everyday`, which are arguments of `tfdet.train` too."""


def add_everyday(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every run needs (`EVERYDAY`; each None where it is not given)."""
    group = parser.add_argument_group("everyday flags", "in place of gin; docs/training.md says what each sets")
    length = group.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="updates of the run in all; the schedule fits itself")
    length.add_argument(
        "--epochs", type=float, metavar="N", help="passes over the training data, mirrored copies among them"
    )
    group.add_argument(
        "--batch",
        type=_batch,
        metavar="N",
        help="images of an update, over all GPUs, or auto: as many as a GPU has memory for, which is tried out; the "
        "learning rate follows in proportion unless --lr says it",
    )
    group.add_argument("--lr", type=float, metavar="X", help="learning rate of the run, at its batch")
    group.add_argument(
        "--image_size",
        metavar="SIZE",
        help="for training and testing: the longest side, such as 512, or the most of the short and of the long one, "
        "such as 800x1333",
    )
    group.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes to train on and to measure, in this order: --classes car bus, or --classes=car,bus; objects of "
        "others count as background (default: all)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="of the initial weights, the data order and the sampling")
    group.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="the run is complete when N evaluations in a row are no better than the best one before",
    )
    group.add_argument(
        "--sinks",
        metavar="NAMES",
        help="where figures go besides the console: tensorboard,csv (default), wandb, mlflow; none",
    )


def _batch(text: str) -> int | str:
    """What `--batch` takes."""
    return text if text == AUTO else int(text)


def everyday(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags of `add_everyday` were given, as arguments of `tfdet.train`."""
    given = {flag: getattr(args, flag) for flag in EVERYDAY}
    if given["classes"] is not None and len(given["classes"]) == 1:
        given["classes"] = [name.strip() for name in given["classes"][0].split(",")]
    return given


def configure(args: argparse.Namespace, from_run: bool = False) -> config.Configuration:
    """Reads the configuration that the flags of a command name; see `row_and_lines`.

    Imports all of tfdet, because a gin file names parts of any package.
    """
    files, lines = row_and_lines(args, from_run)
    config.register_all()
    return config.parse(files, lines, args.allow_imports)


def row_and_lines(args: argparse.Namespace, from_run: bool = False) -> tuple[list[str], list[str]]:
    """The gin files and the bindings beside them that the flags of a command name.

    Args:
      args: parsed flags: `gin_file` and `gin_param`, and where the command has them `model_dir`, `train_data`,
        `eval_data`.
      from_run: without `--gin_file`, take the configuration that training left in `model_dir`.

    Raises:
      UserError: no gin file is named, or a folder is none.
    """
    files = list(args.gin_file)
    model_dir = getattr(args, "model_dir", None)
    if not files and from_run and model_dir:
        written = Path(model_dir) / RUN_FILE
        if not os.path.isfile(written):
            raise UserError(f"{written} not found: give --gin_file, or the --model_dir of a training run.")
        files = [str(written)]
    if not files and not args.gin_param:
        raise UserError(
            "--gin_file is missing: for example --gin_file=faster_r50v1_fpn, or --preset=own_data_cpu for your data."
        )
    return files, lines_of(args)


def lines_of(args: argparse.Namespace) -> list[str]:
    """The bindings of `--gin_param`, then those of the data flags; `UserError` where a folder is none."""
    lines = list(args.gin_param)
    for flag, parameter in DATA_FLAGS.items():
        given = getattr(args, flag, None)
        if given:
            names = folders(given)
            for folder in names:
                if not is_address(folder) and not os.path.isdir(folder) and maker_of(folder) is None:
                    raise UserError(f"--{flag}: {folder} is not a folder. `tfdet convert_data` writes one.")
            lines.append(Line.setting(parameter, tuple(names) if len(names) > 1 else names[0], f"--{flag}"))
    return lines


def load(args: argparse.Namespace) -> model.Model:
    """The model that `--model_dir` or `--weights` names; says which checkpoint of a run it takes.

    Args:
      args: parsed flags: those of `add_config`, `add_model_dir`, `add_weights`, `add_checkpoint`, `add_eval_data`.

    Raises:
      UserError: neither is named, or both, or what does not go with weights; see `tfdet.load`.
    """
    if bool(args.weights) == bool(args.model_dir):
        raise UserError(
            "give either --model_dir of a run, or --weights: a published name (`tfdet weights`), or a file beside "
            "--gin_file"
        )
    if args.weights and (args.checkpoint or args.raw_weights):
        raise UserError(
            "--checkpoint and --raw_weights choose among the weights of a run: leave them out with --weights"
        )
    checkpoint = args.checkpoint
    if checkpoint not in (None, "best", "last"):
        if not checkpoint.isdigit():
            raise UserError(f"--checkpoint {checkpoint}: give best, last or the step of a checkpoint")
        checkpoint = int(checkpoint)
    from tfdet.predict.restore import RunWeights
    from tfdet.terminal import Console, shown

    if args.weights and not args.gin_file:
        files, lines = None, lines_of(args)  # published weights have their own
    else:
        files, lines = row_and_lines(args, from_run=True)
    if args.model_dir and not os.path.isdir(args.model_dir):
        raise UserError(f"--model_dir: {args.model_dir} is not a folder: give the folder of a training run")
    found = model.load(
        args.weights or args.model_dir,
        row=files,
        checkpoint=checkpoint,
        raw_weights=args.raw_weights,
        bindings=lines,
        allow_imports=args.allow_imports,
    )
    assert isinstance(found, model.Model)
    if isinstance(found.weights, RunWeights):
        Console(soft_wrap=True).print(shown(f"{args.model_dir}: {found.weights.chosen.describe()}"))
    return found


def row_name(args: argparse.Namespace) -> str:
    """The name under which results are kept: of the first gin file, of published weights, or of the run's folder."""
    if args.gin_file:
        return Path(args.gin_file[0]).stem
    if getattr(args, "weights", None):
        return args.weights
    return Path(args.model_dir).name if getattr(args, "model_dir", None) else "unnamed"
