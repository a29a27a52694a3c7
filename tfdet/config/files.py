"""Where gin files are: as given, beside the file that includes them, and in the gin_configs folder of tfdet."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from tfdet.errors import UserError
from tfdet.files import at_home

RUN_FILE = "config.gin"
"""The name of the file with a run's own configuration, in its folder."""

# Where files of gin_configs/base/ are now, by their old stem. Those that are not here kept it, in one of _HOMES.
_HOMES = ("overlays", "families", "schedules")
_MOVED = {
    "c4_trunk": "families/faster_c4",
    "cascade_c5_v2": "families/faster_c5_v2",
    "continuous": "families/shared/continuous_two_stage",
    "continuous_fpn": "detectron2/families/faster_fpn",
    "continuous_mask": "overlays/mask",
    "continuous_retina": "families/shared/continuous_retina",
    "d2": "detectron2/families/faster_fpn",
    "d2_c4": "detectron2/families/faster_c4",
    "d2_cascade": "detectron2/overlays/cascade",
    "d2_fpn": "detectron2/families/faster_fpn",
    "d2_mask": "detectron2/overlays/mask",
    "d2_mask_c4": "detectron2/overlays/mask",
    "d2_retina": "detectron2/families/retina_fpn",
    "d2_schedule_1x": "detectron2/schedules/1x",
    "d2_trident": "detectron2/families/trident_c4",
    "faster_r_v1": "families/faster_c4",
    "fpn_trunk": "families/faster_fpn",
    "resnet_v2": "families/faster_c4_v2",
    "schedule_1x": "schedules/shared/simpledet_1x",
    "schedule_1x_v2": "schedules/simpledet_1x_v2",
    "tiny_training": "overlays/shared/tiny",
    "tv_fpn": "torchvision/families/faster_fpn",
    "tv_retina": "torchvision/families/retina_fpn",
    "tv_schedule": "torchvision/schedules/26_epochs",
    "two_stage": "families/shared/two_stage",
}


def gin_configs_folder() -> Path:
    """The folder with the gin files of tfdet: inside an installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "gin_configs"
    return installed if os.path.isdir(installed) else package.parent / "gin_configs"


def is_shipped(place: str) -> bool:
    """Whether a place `FILE:LINE` is in a gin file of tfdet."""
    file = place.rpartition(":")[0]
    return bool(file) and gin_configs_folder().resolve() in Path(file).resolve().parents


def short_place(place: str) -> str:
    """A place as a person reads it: a file of tfdet from its gin_configs folder, a parameter by its flag."""
    if place.startswith("the binding "):
        return "--gin_param"
    return place.replace(f"{gin_configs_folder()}/", "").removeprefix(f"{Path.cwd()}/")


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """The choices most like `name`, best first, without regard to case; empty when nothing is near."""
    folded: dict[str, str] = {}
    for choice in choices:
        folded.setdefault(str(choice).lower(), str(choice))
    return [folded[match] for match in difflib.get_close_matches(name.lower(), list(folded), count, cutoff=0.6)]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` Did you mean 'a' or 'b'?` for the choices nearest to `name`, or an empty string."""
    found = nearest(name, choices)
    return f" Did you mean {' or '.join(repr(match) for match in found)}?" if found else ""


def find_gin_file(path: str, including_file: Path | None = None) -> Path:
    """Finds a gin file by the name a person wrote.

    Args:
      path: a path, absolute or relative to the current folder, to the including file's folder or to the gin_configs
        folder (`gin_configs/x.gin` and `x.gin` mean the same there). The ending `.gin` may be left out.
      including_file: the file whose `include` is being read; its folder comes first. For a shipped file the current
        folder is left out.

    Returns:
      The path of an existing file.

    Raises:
      UserError: no such file; names the nearest ones.
    """
    shipped = gin_configs_folder()
    written = at_home(path)
    folders = [Path(), shipped, shipped.parent]
    if including_file is not None:
        # A shipped row is made of shipped files, whatever lies in the current folder.
        own = [] if shipped.resolve() in including_file.resolve().parents else [Path()]
        folders = [including_file.parent, *own, shipped, shipped.parent]
    for candidate in [written, written.with_name(written.name + ".gin")] if written.name else []:
        for folder in folders:
            if os.path.isfile(folder / candidate):
                return folder / candidate
    moved = _moved(written, shipped)
    if moved:
        raise UserError(f"gin file {path!r} not found: base/{written.stem}.gin is {moved} now.")
    known: dict[str, Path] = {}
    below = sorted({found.parent for found in shipped.rglob("*.gin")})
    for folder in [*(folder / written.parent for folder in folders), shipped, *below]:
        for found in sorted(folder.glob("*.gin")) if os.path.isdir(folder) else []:
            known.setdefault(found.stem, found)
    near = nearest(written.name.removesuffix(".gin"), known)
    hint = f" Did you mean {' or '.join(str(known[name]) for name in near)}?" if near else ""
    if os.path.isdir(written):
        hint = " It is a folder: name a file in it." + hint
    raise UserError(f"gin file {path!r} not found (looked in the current folder, then in {shipped}).{hint}")


def _moved(written: Path, shipped: Path) -> str | None:
    """The present name of a file that was in gin_configs/base/, None for other names."""
    if written.parent.name != "base":
        return None
    stem = written.name.removesuffix(".gin").replace("profile_h", "later_revision")
    names = [_MOVED[stem]] if stem in _MOVED else [f"{home}/{stem}" for home in _HOMES]
    return next((f"{name}.gin" for name in names if os.path.isfile(shipped / f"{name}.gin")), None)
