"""Convert weights of any program that tfdet reads to tfdet's own format, or tfdet's weights to SimpleDet's.

The detector is that of --gin_file, or the one that published weights are of. The ending of --output says what to write:
`.safetensors`, tfdet's own format, or `.params`, a checkpoint of SimpleDet. Without --output it is only described.
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "weights", metavar="FILE", help="path, or name of published weights; or the folder of a run of tfdet"
    )
    flags.add_config(parser)
    parser.add_argument("--num_classes", type=int, metavar="N", help="without background (default: the file's)")
    parser.add_argument("--output", metavar="FILE", help="what to write: X.safetensors (tfdet) or X.params (SimpleDet)")
    parser.add_argument("--all_names", action="store_true", help="list every tensor of the summary")
    parser.add_argument(
        "--verify",
        metavar="IMAGE",
        help="run an image through the network of the program that the file is of, where that is installed "
        "(SimpleDet on MXNet, keras.applications, torchvision, Detectron2), and through tfdet's",
    )


def run(args: argparse.Namespace) -> int:
    """Describes, converts, verifies."""
    from tfdet.detectors import build_detector
    from tfdet.report.console import make_console
    from tfdet.report.weights_table import load_table
    from tfdet.weights import convert, published, verify

    if args.output:
        convert.check_output(args.output, "--output ")
    if args.num_classes is not None and args.num_classes < 1:
        raise UserError(f"--num_classes {args.num_classes} must be at least 1")
    offered = published.named(args.weights)
    if offered and (args.output or args.verify) and not args.gin_file:
        args.gin_file, lines = published.row_of(offered)
        args.gin_param = [*lines, *args.gin_param]
    if (args.output or args.verify) and not args.gin_file:
        raise UserError("--gin_file is missing: of the detector that the weights are for")
    console = make_console()

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    source = convert.read_source(args.weights)
    say(source.summary())
    if not args.gin_file:
        return EXIT_OK
    # A backbone has no classes: what the predictors look like does not matter, for they are not written.
    num_classes = args.num_classes or source.num_classes or 1
    detector = flags.configure(args).build(build_detector, num_classes=num_classes)
    result, passed = convert.convert(detector, source, args.output), True
    console.print(load_table(result.report, None) if args.all_names else load_table(result.report))
    if args.output:
        say(result.summary(args.output))
        passed = not result.different
    if args.verify:
        compared = verify.compare(detector, source.program, source.path, args.verify)
        for name, (difference, allowed) in compared.items():
            console.print(f"{name}: {difference:.2g} (at most {allowed:g})", highlight=False)
        same = all(difference <= allowed for difference, allowed in compared.values())
        verdict = "both networks give the same maps" if same else "the networks do NOT give the same maps"
        console.print(verdict, style="green" if same else "red")
        passed &= same
    return EXIT_OK if passed else EXIT_CHECK_FAILED
