"""The rows of the model zoos: what a gin file says about itself, read without building or importing anything of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from gin import config_parser

from tfdet.config.bindings import Bindings
from tfdet.config.files import gin_configs_folder
from tfdet.config.ranges import PositiveFloat, Range
from tfdet.config.registration import configurable
from tfdet.errors import ParameterError, UserError

Percent = Annotated[float, Range(least=0, most=100)]


@configurable(denylist=["name"])
@dataclasses.dataclass(frozen=True)
class Row:
    """What was published of a detector, stated by its gin file as `Row.title = ...` and so on.

    It is for those who list rows; no part of a detector or of its training reads it. None where nothing was published.

    Args:
        name: of the gin file in the folder, without its suffix: `faster_r50v1_c4`, `detectron2/faster_rcnn_r50_c4`.
        title: the detector in a few words.
        program: whose row it is.
        source: where the figures stand, and the program's own configuration.
        setting: what the program trained on, such as "8 GPUs x 2 images".
        box_ap: percent, of COCO val2017.
        mask_ap: percent, likewise.
        memory_gb: of each GPU, in training.
        images_per_second: of training, over all GPUs.
    """

    name: str
    title: str
    program: Literal["SimpleDet", "Detectron2", "torchvision", "MMDetection"]
    source: str
    setting: str | None
    box_ap: Percent | None
    mask_ap: Percent | None
    memory_gb: PositiveFloat | None
    images_per_second: PositiveFloat | None


def zoo_rows(folder: str | Path | None = None, program: str | None = "SimpleDet") -> list[Row]:
    """The rows in the order of their names: every file below `folder` that says of itself what `Row` has.

    A file's own lines count and not those of files it includes: a variant of a row is no row.

    Args:
        folder: by default tfdet's own gin files.
        program: whose rows; None for all.

    Returns:
        The rows.

    Raises:
        UserError: a file leaves out something that `Row` has, or names something that it has not.
    """
    folder = Path(folder or gin_configs_folder())
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.gin"))}
    rows = [_row(path, path.relative_to(folder), text) for path, text in texts.items() if "\nRow." in text]
    return sorted((row for row in rows if program in (None, row.program)), key=lambda row: row.name)


class _Plain(config_parser.ParserDelegate):
    """Reads a file without knowing its configurables: references and macros stand for nothing."""

    def configurable_reference(self, scoped_selector, evaluate):
        return None

    def macro(self, name):
        return None


def _row(path: Path, name: Path, text: str) -> Row:
    said: dict[str, Any] = {}
    try:
        for statement in config_parser.ConfigParser(text, _Plain()):
            if isinstance(statement, config_parser.BindingStatement) and statement.selector == "Row":
                said[statement.arg_name] = statement.value
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: not gin syntax: {error.msg}.") from None
    known = {field.name for field in dataclasses.fields(Row)} - {"name"}
    for what, names in (("needs", known - said.keys()), ("has no", said.keys() - known)):
        if names:
            raise UserError(f"{path}: Row {what} {', '.join(sorted(names))}.")
    try:
        with Bindings().active():  # gin notes what is called: not among the caller's
            return Row(name=name.with_suffix("").as_posix(), **said)
    except ParameterError as error:
        raise UserError(f"{path}: {error}") from None
