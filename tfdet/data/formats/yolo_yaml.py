"""data.yaml of YOLO: names of the classes and where the images of each split are."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdet.data.formats.source import Tree
from tfdet.data.values import shown, whole_id
from tfdet.errors import UserError
from tfdet.files import read_regular
from tfdet.text import decode, read_lines

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


@dataclasses.dataclass(frozen=True)
class DataYaml:
    """What data.yaml says.

    Attributes:
        path: the file.
        names: of the classes by their numbers; None: it has none.
        has_keypoints: labels go on with key points after the box.
        entries: folders and lists of images by split, as they are written.
        base: its `path`, as it is written; empty: none.
    """

    path: Path
    names: list[str] | None
    has_keypoints: bool
    entries: dict[str, list[str]]
    base: str

    def images(self, tree: Tree) -> list[tuple[Path, str]]:
        """The images of a tree that the splits name, in the order of the tree; of two splits the first has an image.

        Empty where none of the folders is here: then the file was written for another place.

        Raises:
            UserError: a list of images cannot be read.
        """
        of_image: dict[str, str] = {}
        for split, entries in self.entries.items():
            for entry in entries:
                place = self._place(entry)
                if place is None:
                    continue
                if os.path.isdir(place):
                    inside = os.path.realpath(place) + os.sep
                    for image in tree.images:
                        if (real := os.path.realpath(image)).startswith(inside):
                            of_image.setdefault(real, split)
                elif place.suffix.lower() == ".txt":
                    for line in read_lines(place, "the list of images", errors="surrogateescape"):
                        named = next((p for p in self._places(line) if os.path.isfile(p)), None)
                        if named is not None:
                            of_image.setdefault(os.path.realpath(named), split)
        found = [(image, of_image.get(os.path.realpath(image))) for image in tree.images]
        return [(image, split) for image, split in found if split is not None]

    def _place(self, entry: str) -> Path | None:
        return next((path for path in self._places(entry) if os.path.exists(path)), None)

    def _places(self, entry: str) -> list[Path]:
        """Where an entry may lead: Ultralytics begins at `path`, Roboflow has `../train/images` for a folder here."""
        folder, entry = self.path.parent, entry.replace("\\", "/")
        without = entry
        while without.startswith("../"):
            without = without[3:]
        return [
            folder / self.base / entry,
            folder / entry,
            folder / without,
            folder.parent / self.base / entry,
        ]


def find_yaml(annotations: Sequence[Path]) -> DataYaml | None:
    """data.yaml among the files of a source, read; None where there is none.

    Raises:
        UserError: there are two, or it cannot be read.
    """
    files = [path for path in annotations if path.suffix.lower() in (".yaml", ".yml")]
    if not files:
        return None
    if len(files) > 1:
        raise UserError(f"{files[0]} and {files[1]} both name classes: name one with --annotations")
    return _read(files[0])


def _read(path: Path) -> DataYaml:
    try:
        import yaml
    except ImportError:
        raise UserError(f"{path} is read with PyYAML, which is not installed: pip install PyYAML") from None
    try:
        # Every value as text: a class may be called `no` or `1.0`.
        content = yaml.load(decode(read_regular(path)), Loader=yaml.BaseLoader)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not of {error.encoding.upper()}; save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise UserError(
            f"{path}{where} is no YAML: {getattr(error, 'problem', None) or type(error).__name__}"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {_brief(content)}, where 'names' and 'train' are expected")
    entries = {}
    for key, split in _SPLITS.items():
        value = content.get(key)
        texts = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(text, str) for text in texts):
            raise UserError(f"{path}: '{key}' is {_brief(value)}, and must be a folder, a list of images, or several")
        if value:
            entries.setdefault(split, []).extend(text for text in texts if text)
    base = content.get("path")
    names = _names(content.get("names"), path)
    return DataYaml(path, names, bool(content.get("kpt_shape")), entries, base if isinstance(base, str) else "")


def _names(value: Any, path: Path) -> list[str] | None:
    """The names of a list, or of a mapping from numbers 0, 1, ..."""
    if not value:
        return None
    if isinstance(value, dict):
        try:
            by_number = {whole_id(number): name for number, name in value.items()}
        except ValueError as error:
            raise UserError(f"{path}: 'names' has the number {error}") from None
        if sorted(by_number) != list(range(len(by_number))):
            missing = next(number for number in range(len(by_number)) if number not in by_number)
            raise UserError(f"{path}: 'names' has no name for class {missing}")
        value = [by_number[number] for number in range(len(by_number))]
    if not isinstance(value, list):
        raise UserError(f"{path}: 'names' is {_brief(value)}, and must be a list of names")
    names = []
    for number, name in enumerate(value):
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{path}: class {number} of 'names' is {_brief(name)}, and must be a name")
        names.append(name.strip())
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: 'names' has {shown(double)} twice")
    return names


def _brief(value: Any) -> str:
    """A value for a message; lists within lists can be of any size by YAML's aliases."""
    return {dict: "a mapping", list: "a list"}.get(type(value)) or shown(value)
