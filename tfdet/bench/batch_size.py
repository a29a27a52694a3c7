"""The largest batch that a GPU has memory for: tried out, each size in a process of its own.

A step that runs out of memory may leave TensorFlow, the driver or the whole process unusable, so nothing is tried in
the process that is to train. The child (`batch_child`) takes a few training steps on random pictures that fill the
canvas.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tfdet.config import Configuration, parse
from tfdet.config.files import RUN_FILE
from tfdet.errors import UserError

TOO_LARGE = 9
"""Exit code of a child that found the memory full and said so."""

LARGEST = 256
"""Images: more on one device gain nothing."""

_OF_MEMORY = ("ResourceExhausted", "Out of memory", "out of memory", "OUT_OF_MEMORY", "OOM when", "MemoryError")
_MARGIN = 0.9  # of the images that fit: batches differ in their boxes, and evaluations need memory too
_SECONDS = 1800.0  # for one size: a graph for many images takes minutes to trace and tune


def probe_batch(
    files: Sequence[str],
    lines: Sequence[str],
    num_classes: int,
    allow_imports: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    child: Sequence[str] = (sys.executable, "-m", "tfdet.bench.batch_child"),
) -> int:
    """Images per replica for a configuration on this machine's GPUs: nine tenths of the most that fit.

    Args:
        files, lines: gin files and bindings of the run.
        num_classes: of the data, without background.
        allow_imports: as in `tfdet.build`.
        tell: receives a line for every size that is tried.
        child: command that is run with a configuration as json on its standard input, and the number of images as its
            last argument.

    Raises:
        UserError: not even one image fits, or the child fails by something else than memory.
    """
    content = json.dumps(
        {"files": list(files), "lines": list(lines), "num_classes": num_classes, "allow_imports": allow_imports}
    )

    def fits(images: int) -> bool:
        found = _fits([*child, str(images)], content)
        tell(f"--batch=auto: {images} images a device {'fit' if found else 'do not fit'}")
        return found

    return chosen(largest(fits))


def automatic_batch(
    configuration: Configuration,
    num_classes: int,
    own_run: str | os.PathLike | None,
    replicas: int,
    on_gpu: bool,
    tell: Callable[[str], None] = lambda _: None,
    probe: Callable[..., int] = probe_batch,
) -> int:
    """Images of an update for `--batch=auto`: tried out on a GPU, the configuration's own without one.

    Args:
        configuration: of the run.
        num_classes: of its data, without background.
        own_run: folder of the run where it goes on, which keeps its batch; None for a new run.
        replicas: that a batch is shared out over.
        on_gpu: whether they are on GPUs.
        tell: receives a line for everything that a person wants to know.
        probe: as `probe_batch`.

    Raises:
        UserError: as in `probe_batch`.
    """
    accumulate = configuration.value("Trainer.accumulate")
    whole = replicas * accumulate
    own = whole * configuration.value("TrainInput.images_per_replica")
    if own_run is not None:
        before = parse([str(Path(own_run) / RUN_FILE)], [], configuration.allow_imports)
        own = whole * before.value("TrainInput.images_per_replica")
        tell(f"--batch=auto: the run goes on with its batch of {own} images")
        return own
    if not on_gpu:
        tell(f"--batch=auto needs a GPU, and there is none: the configuration's batch of {own} images is taken")
        return own
    lines = [str(line) for line in configuration.params]
    found = whole * probe(configuration.files, lines, num_classes, configuration.allow_imports, tell)
    tell(f"--batch=auto: {found} images")
    return found


def largest(fits: Callable[[int], bool], most: int = LARGEST) -> int:
    """The largest number from 1 to `most` that fits; what is larger than one that does not fit is not tried.

    Numbers are doubled until one does not fit; between the last two, halves are tried until an eighth is left.

    Args:
        fits: whether a number fits.
        most: is not gone beyond.

    Returns:
        A number that was tried and fits; 0 where 1 does not.
    """
    good, bad, images = 0, most + 1, 1
    while good < most and images < bad:
        if fits(images):
            good, images = images, min(2 * images, most)
        else:
            bad = images
    while good and bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def chosen(fitting: int) -> int:
    """What is taken of the images that fit: nine tenths, at least 1; `UserError` where none fits."""
    if not fitting:
        raise UserError(
            "--batch=auto: not even one image fits into the GPU's memory: lower the image size "
            "(TrainInput.short_side and .long_side), or set Trainer.precision = 'mixed_float16'"
        )
    return max(1, int(_MARGIN * fitting))


def _fits(command: Sequence[str], content: str) -> bool:
    """Runs a child; False where it died of memory, whoever ended it."""
    # The program may be that of a checkout, found by `sys.path` alone.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    try:
        done = subprocess.run(
            command,
            input=content,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"--batch=auto: {command[-1]} images took more than {_SECONDS / 60:.0f} minutes: give --batch a number"
        ) from None
    if done.returncode == 0:
        return True
    # A negative code is a signal: the kernel's for a machine without memory, or an abort of the driver or allocator.
    if done.returncode == TOO_LARGE or done.returncode < 0 or any(word in done.stderr for word in _OF_MEMORY):
        return False
    said = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1].strip()
    raise UserError(f"--batch=auto: {command[-1]} images could not be tried: {said[:300]}; give --batch a number")
