"""A file of measurements: one JSON object a line, appended to by whatever measures, read by the zoo's tables."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdet.errors import UserError
from tfdet.files import read_regular, replacing
from tfdet.report.environment import cpu_model
from tfdet.strict_json import field, parse_json


def append_result(path: str | os.PathLike, kind: str, row: str, **figures: Any) -> dict[str, Any]:
    """Adds one measurement with its date, device, versions and command.

    Args:
        path: the file; made where it is missing.
        kind: what was measured: "model", "evaluate", "train speed", "inference speed", "learn", "check".
        row: name of the gin file, without its suffix.
        **figures: what came out; values that JSON knows.

    Returns:
        The record that was written.

    Raises:
        UserError: the file cannot be written, or holds something else.
    """
    record = {
        "kind": kind,
        "row": row,
        **figures,
        "date": datetime.date.today().isoformat(),
        "device": device(),
        "command": command(),
    }
    lines = [json.dumps(line) for line in read_results(path)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([*lines, json.dumps(record)]) + "\n", encoding="utf-8")
    return record


_NUMBER, _SPEED = (int, float), {"images_per_second": (int, float), "device": str}
_FIELDS = {  # what tables show of each kind
    "model": {"parameters": _NUMBER, "multiply_adds": _NUMBER},
    "evaluate": {"AP": _NUMBER, "data": str},
    "train speed": _SPEED,
    "inference speed": _SPEED,
}


def read_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The measurements in the order they were taken; none where the file is missing.

    Raises:
        UserError: a line is no measurement.
    """
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
            field(record, "row", str)
            for name, kind in _FIELDS.get(field(record, "kind", str), {}).items():
                field(record, name, kind)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: not a measurement of tfdet ({error}); take the line out"
            ) from error
        records.append(record)
    return records


def latest(records: Sequence[dict[str, Any]], kind: str, row: str) -> dict[str, Any] | None:
    """The newest measurement of `kind` of a row, or None."""
    return next((r for r in reversed(records) if r["kind"] == kind and r["row"] == row), None)


def machine() -> str:
    """Processor, CPUs this process may use, memory, system and load: what a figure depends on."""
    parts = []
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        parts.append(f"{memory / 2**30:.0f} GB memory")
        parts.append(f"load {os.getloadavg()[0]:.1f} at the end")
    except (OSError, ValueError, AttributeError):
        pass
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join([f"{cpu_model()}, {cpus} CPUs", *parts, f"{platform.system()} {platform.machine()}"])


def device() -> str:
    """The GPUs, or the processor, of this machine."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return machine().partition(", load")[0]
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def command() -> str:
    """The command line of this process, as one would type it in the repository."""
    script, words = Path(sys.argv[0]), sys.argv[1:]
    program = ["tfdet"]
    if script.resolve().parent.name == "tools":
        program = ["python", "-m", f"tools.{script.stem}"]
    elif script.stem not in ("tfdet", "__main__"):
        program = ["python", f"scripts/{script.stem}.py"]
    return shlex.join([*program, *words])
