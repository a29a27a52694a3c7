"""Convert weights of any program that tfdet reads to tfdet's own format, or tfdet's weights to SimpleDet's.

The detector is that of --gin_file. The ending of --output says what to write: `.safetensors`, tfdet's own format, or
`.params`, a checkpoint of SimpleDet. Without --output the file is only described.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tfdet.commands import flags
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK

_ENDINGS = (".safetensors", ".params")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("weights", metavar="FILE", help="path or short name; or the folder of a run of tfdet")
    flags.add_config(parser)
    parser.add_argument("--num_classes", type=int, metavar="N", help="without background (default: the file's)")
    parser.add_argument("--output", metavar="FILE", help="what to write: X.safetensors (tfdet) or X.params (SimpleDet)")
    parser.add_argument("--all_names", action="store_true", help="list every tensor of the summary")
    parser.add_argument("--measure", action="store_true", help="measure time and memory of reading the file")
    parser.add_argument(
        "--verify",
        metavar="IMAGE",
        help="run an image through the network of the program that the file is of, where that is installed "
        "(SimpleDet on MXNet, keras.applications, torchvision, Detectron2), and through tfdet's",
    )


def run(args: argparse.Namespace) -> int:
    """Describes, converts, verifies."""
    from tfdet.errors import UserError
    from tfdet.report.console import make_console
    from tfdet.weights import sources
    from tfdet.weights.load import find_weights
    from tfdet.weights.readers import read_weights

    if args.output and not args.output.endswith(_ENDINGS):
        raise UserError(f"--output {args.output}: the name must end in one of {', '.join(_ENDINGS)}")
    if args.num_classes is not None and args.num_classes < 1:
        raise UserError(f"--num_classes {args.num_classes} must be at least 1")
    if (args.output or args.verify) and not args.gin_file:
        raise UserError("--gin_file is missing: of the detector that the weights are for")
    console, path = make_console(), find_weights(args.weights)
    begin = time.perf_counter()
    arrays = read_weights(path)
    program, named = sources.program_of(arrays), sources.classes_of(arrays)
    classes = len(named) if named else None
    console.print(
        f"{path}: {len(arrays)} tensors, {sum(a.nbytes for a in arrays.values()) / 1e6:.1f} MB of "
        f"{program or 'no known program'}, {f'{classes} classes' if classes else 'no class predictor'}, read in "
        f"{time.perf_counter() - begin:.2f} s",
        markup=False,
        soft_wrap=True,
    )
    if args.measure:
        _measure(path, console)
    if not args.gin_file:
        return EXIT_OK
    return _convert(args, arrays, path, program, args.num_classes or classes, console)


def _measure(path: Path, console) -> None:
    from tfdet.bench.measure import peak_memory
    from tfdet.weights.readers import read_weights

    def read():
        return {name: float(array.sum()) for name, array in read_weights(path).items()}  # every page is touched

    begin = time.perf_counter()
    read()
    seconds, peak = time.perf_counter() - begin, peak_memory(read)
    files = [path] if path.is_file() else [p for p in path.parent.glob(f"{path.name}*") if p.is_file()]
    files = list(path.glob("*.data-*")) if path.is_dir() else files
    size = sum(file.stat().st_size for file in files)
    shown = "not known here" if peak is None else f"{peak / 1e6:.0f} MB, {peak / max(size, 1):.2f} times the file"
    console.print(
        f"file of {size / 1e6:.0f} MB read and summed in {seconds:.2f} s; memory at the peak: {shown}", soft_wrap=True
    )


def _convert(args: argparse.Namespace, arrays: dict, path: Path, program: str | None, classes: int | None, console):
    from tfdet.detectors import build_detector
    from tfdet.report.weights_table import load_table
    from tfdet.weights.load import load_arrays

    # A backbone has no classes: what the predictors look like does not matter, for they are not written.
    detector = flags.configure(args).build(build_detector, num_classes=classes or 1)
    report, name_map = load_arrays(detector, arrays, str(path))
    console.print(load_table(report, None) if args.all_names else load_table(report))
    passed = True
    if args.output:
        _write(args.output, detector, report, name_map, path)
        passed = _written(args.output, detector, report, console)
    if args.verify:
        passed &= _verify(args.verify, detector, program, path, console)
    return EXIT_OK if passed else EXIT_CHECK_FAILED


def _write(output: str, detector, report, name_map, path: Path) -> None:
    from tfdet.weights import own_format
    from tfdet.weights.readers import write_params
    from tfdet.weights.to_simpledet import to_simpledet

    if output.endswith(".params"):
        write_params(output, to_simpledet(detector, report.matched))
    else:
        own_format.write(output, detector, report.matched, name_map, path.name)


def _written(output: str, detector, report, console) -> bool:
    """Whether the file, read again, gives every variable bit for bit."""
    from tfdet.weights.readers import read_weights
    from tfdet.weights.rules import source_of
    from tfdet.weights.sources import find_map

    stored = read_weights(output)
    _, name_map = find_map(stored, detector, output)
    stored, wrong, chosen = name_map.prepare(stored), [], set(report.matched)
    for variable in detector.weights:
        if variable.path in chosen:
            name, step = source_of(variable.path, name_map.rules)
            value = variable.numpy()
            if name not in stored or step(stored[name]).astype(value.dtype).tobytes() != value.tobytes():
                wrong.append(variable.path)
    if wrong:
        console.print(f"[red]{output} does NOT hold {len(wrong)} of the weights, first {wrong[0]}: do not use it")
        return False
    console.print(
        f"{len(report.matched)} tensors written to {output}, read again and compared: equal",
        markup=False,
        soft_wrap=True,
    )
    return True


def _verify(image: str, detector, program: str | None, path: Path, console) -> bool:
    from tfdet.weights import verify

    differences = verify.compare(detector, program, path, image)
    for name, (difference, allowed) in differences.items():
        console.print(f"{name}: {difference:.1e} (at most {allowed:.0e})", highlight=False)
    passed = all(difference <= allowed for difference, allowed in differences.values())
    console.print(
        "[green]both networks give the same maps" if passed else "[red]the networks do NOT give the same maps"
    )
    return passed
