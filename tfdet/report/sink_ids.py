"""What servers call a run, kept in its folder: a run that goes on is the same one there."""

from __future__ import annotations

import json
from pathlib import Path

from tfdet.files import read_regular, write_json
from tfdet.strict_json import parse_json

_FILE = "sinks.json"


def read_id(folder: Path, sink: str) -> str | None:
    """The id that `keep_id` wrote; None where nothing readable is there."""
    found = _read(folder).get(sink)
    return found if isinstance(found, str) else None


def keep_id(folder: Path, sink: str, number: str) -> None:
    """Keeps the id of a run at a sink in `sinks.json`; `UserError` where it cannot be written."""
    write_json(_read(folder) | {sink: number}, folder / _FILE)


def _read(folder: Path) -> dict:
    try:
        found = parse_json(read_regular(folder / _FILE))
    except (OSError, ValueError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
