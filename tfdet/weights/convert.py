"""Converts weights of any program that tfdet reads to tfdet's own format, or to SimpleDet's: the way back.

A converted file is read again and compared with what was written.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from tfdet.errors import UserError
from tfdet.layers import BN_EPSILON
from tfdet.weights.class_names import as_metadata, known_classes
from tfdet.weights.formats import read_weights, write_params
from tfdet.weights.formats.safetensors import write_safetensors
from tfdet.weights.load import COUNTERS, LoadReport, find_weights, load_arrays
from tfdet.weights.maps import layouts, own, simpledet
from tfdet.weights.maps.rules import Arrays, NameMap, source_of
from tfdet.weights.sources import classes_of, find_map, program_of

ENDINGS = (".safetensors", ".params")
"""What a converted file is called: tfdet's own format, and a checkpoint of SimpleDet."""

_FC = re.compile(r"arg:bbox_fc[12](?P<cascade>_(1st|2nd|3rd))?_weight")


class Source(NamedTuple):
    """A weight file that was read."""

    path: Path
    arrays: Arrays
    program: str | None  # a key of `sources.PROGRAMS`; None for no known one
    num_classes: int | None  # None for a backbone alone
    seconds: float
    classes: dict[int, str] | None = None  # names by category id, where anything says them

    def summary(self) -> str:
        """What the file is, in one line."""
        size = sum(array.nbytes for array in self.arrays.values()) / 1e6
        classes = f"{self.num_classes} classes" if self.num_classes else "no class predictor"
        return (
            f"{self.path}: {len(self.arrays)} tensors, {size:.1f} MB of {self.program or 'no known program'}, "
            f"{classes}, read in {self.seconds:.2f} s"
        )


class Conversion(NamedTuple):
    """What became of the tensors of a file.

    `different` are the paths of variables that the written file does not hold bit for bit; None without a file.
    """

    report: LoadReport
    different: list[str] | None

    def summary(self, output: str | Path) -> str:
        """Whether the written file holds the weights, in one line."""
        if self.different:
            return (
                f"{output} does NOT hold {len(self.different)} of the weights, first {self.different[0]}: do not use it"
            )
        return f"{len(self.report.matched)} tensors written to {output}, read again and compared: equal"


def read_source(weights: str | Path) -> Source:
    """Reads a file and says what it is.

    Args:
        weights: a path or a short name, see `find_weights`.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path, begin = find_weights(weights), time.perf_counter()
    arrays = read_weights(path)
    named = classes_of(arrays)
    count, seconds = len(named) if named else None, time.perf_counter() - begin
    return Source(path, arrays, program_of(arrays), count, seconds, known_classes(weights, path, arrays))


def convert(detector: keras.Model, source: Source, output: str | Path | None = None) -> Conversion:
    """Loads a file into a detector and writes what was loaded.

    Args:
        detector: built, of the architecture that the file is of; gets the weights.
        source: see `read_source`.
        output: the file to write, with one of `ENDINGS`; None writes none.

    Raises:
        UserError: the weights are of another architecture, SimpleDet has no such detector, or the file is not written.
    """
    report, name_map = load_arrays(detector, source.arrays, str(source.path))
    if output is None:
        return Conversion(report, None)
    return Conversion(report, write(output, detector, report.matched, name_map, source.path.name, source.classes))


def save(detector: keras.Model, output: str | Path, source: str, classes: dict[int, str] | None = None) -> None:
    """Writes all weights of a detector, and reads them again to compare.

    Args:
        detector: with the weights.
        output: the file, with one of `ENDINGS`.
        source: where they came from, for whoever reads the file.
        classes: names by category id, in the order of the classes; only tfdet's own format keeps them.

    Raises:
        UserError: SimpleDet has no such detector, or the file does not hold the weights.
    """
    paths = [v.path for v in detector.weights if not v.path.endswith(COUNTERS)]
    wrong = write(output, detector, paths, own.name_map(detector, {}), source, classes)
    if wrong:
        raise UserError(f"{output} does not hold {len(wrong)} of the weights, first {wrong[0]}: do not use it")


def write(
    output: str | Path,
    detector: keras.Model,
    paths: list[str],
    name_map: NameMap,
    source: str,
    classes: dict[int, str] | None = None,
) -> list[str]:
    """Writes variables of a detector in the format that the file's ending says, and compares.

    Args:
        output: the file, with one of `ENDINGS`.
        detector, paths, name_map, source, classes: as in `write_own`.

    Returns:
        What `different` gives.
    """
    check_output(output)
    if str(output).endswith(".params"):
        write_params(output, to_simpledet(detector, paths))
    else:
        write_own(output, detector, paths, name_map, source, classes)
    return different(output, detector, paths)


def check_output(output: str | Path, called: str = "") -> None:
    """`UserError` where a file of this name is not written; `called`: what stands before the name in the message."""
    if not str(output).endswith(ENDINGS):
        raise UserError(f"{called}{output}: the name must end in one of {', '.join(ENDINGS)}")


def write_own(
    path: str | Path,
    detector: keras.Model,
    paths: list[str],
    name_map: NameMap,
    source: str,
    classes: dict[int, str] | None = None,
) -> None:
    """Writes variables of a detector in tfdet's own format, see `maps.own`.

    Args:
        path: the file, `.safetensors`.
        detector: with the weights.
        paths: of the variables to write: all that were loaded.
        name_map: by which they were loaded.
        source: where they came from, for whoever reads the file.
        classes: names by category id, in the order of the classes, which the header keeps.

    Raises:
        UserError: the file cannot be written.
    """
    chosen = set(paths)
    arrays = {v.path: np.ascontiguousarray(v.numpy()) for v in detector.weights if v.path in chosen}
    texts = {"format": "tfdet", "source": source, **as_metadata(classes)}
    write_safetensors(path, arrays | own.facts(detector, name_map), texts)


def different(path: str | Path, detector: keras.Model, paths: list[str]) -> list[str]:
    """The variables, of those at `paths`, that a written file does not give bit for bit when it is read."""
    stored = read_weights(path)
    _, name_map = find_map(stored, detector, str(path))
    stored, wrong, chosen = name_map.prepare(stored), [], set(paths)
    for variable in detector.weights:
        if variable.path in chosen:
            name, step = source_of(variable.path, name_map.rules)
            value = variable.numpy()
            if name not in stored or step(stored[name]).astype(value.dtype).tobytes() != value.tobytes():
                wrong.append(variable.path)
    return wrong


def to_simpledet(detector: keras.Model, paths: list[str] | None = None) -> Arrays:
    """The tensors of a SimpleDet checkpoint with BN not folded, as its first release saves them.

    A detector of SimpleDet's later revision (no bias in the fully connected layers of FPN; a 3x3 neck of Cascade) gets
    that revision's names and shapes: fully connected layers as 1x1 convolutions, mask convolutions from 1.

    Args:
        detector: with the weights.
        paths: of the variables to take; None takes all.

    Returns:
        Name with `arg:` or `aux:` -> float32 array.

    Raises:
        UserError: SimpleDet has no such detector.
    """
    _check_simpledet_has(detector)
    rules, arrays, chosen = simpledet.name_map(detector).rules, {}, None if paths is None else set(paths)
    for variable in detector.weights:
        if variable.path.endswith(COUNTERS) or (chosen is not None and variable.path not in chosen):
            continue
        found = source_of(variable.path, rules)
        if found is None:
            raise UserError(f"SimpleDet has no {variable.path}: not convertible")
        name, step = found
        if name in arrays:
            raise UserError(f"SimpleDet has one {name}, this detector several, as {variable.path}: not convertible")
        arrays[name] = np.ascontiguousarray(layouts.inverse(step)(variable.numpy().astype(np.float32)))
    return _of_revision(arrays)


def _check_simpledet_has(detector: keras.Model) -> None:
    """`UserError` where a detector computes what SimpleDet's does not."""
    backbone = detector.backbone
    if getattr(backbone, "groups", 1) != 1:
        raise UserError("SimpleDet has no grouped convolutions, this detector's backbone has: not convertible")
    if getattr(backbone, "variant", "mxnet") != "mxnet":
        raise UserError(
            "SimpleDet's ResNet-v2 strides in a stage's first unit, keras.applications' in its last: not convertible"
        )
    if getattr(backbone, "norm", None) == "group":
        raise UserError("SimpleDet's backbones have batch normalisation, this detector's groups: not convertible")
    if detector.convention != "legacy_plus_one":
        raise UserError("SimpleDet's boxes are of whole pixels, this detector's are continuous: not convertible")
    epsilon = getattr(backbone, "epsilon", BN_EPSILON)
    if abs(epsilon - BN_EPSILON) > 1e-8:
        raise UserError(f"SimpleDet's BN adds {BN_EPSILON} to variances, this detector's {epsilon}: not convertible")


def _of_revision(arrays: Arrays) -> Arrays:
    later = "arg:bbox_fc1_weight" in arrays and "arg:bbox_fc1_bias" not in arrays
    shaped = {}
    for name, array in arrays.items():
        fc = _FC.fullmatch(name)
        shaped[name] = array[:, :, None, None] if fc and (later or fc["cascade"]) else array
    return simpledet.number_from_one(shaped) if later else shaped
