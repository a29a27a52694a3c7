"""Where gin files are: as given, beside the file that includes them, and in the gin_configs folder of tfdet."""

from __future__ import annotations

import difflib
from pathlib import Path

from tfdet.errors import UserError


def gin_configs_folder() -> Path:
    """The folder with the gin files of tfdet: inside an installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "gin_configs"
    return installed if installed.is_dir() else package.parent / "gin_configs"


def nearest(name: str, choices, count: int = 3) -> list[str]:
    """The choices most like `name`, best first, without regard to case; empty when nothing is near."""
    folded = {}
    for choice in choices:
        folded.setdefault(str(choice).lower(), str(choice))
    return [folded[match] for match in difflib.get_close_matches(name.lower(), list(folded), count, cutoff=0.6)]


def did_you_mean(name: str, choices) -> str:
    """` Did you mean 'a' or 'b'?` for the choices nearest to `name`, or an empty string."""
    found = nearest(name, choices)
    return f" Did you mean {' or '.join(repr(match) for match in found)}?" if found else ""


def find_gin_file(path: str, including_file: Path | None = None) -> Path:
    """Finds a gin file by the name a person wrote.

    Args:
      path: a path, absolute or relative to the current folder, to the including file's folder or to the gin_configs
        folder (`gin_configs/x.gin` and `x.gin` mean the same there). The ending `.gin` may be left out.
      including_file: the file whose `include` is being read; its folder comes first.

    Returns:
      The path of an existing file.

    Raises:
      UserError: no such file; names the nearest ones.
    """
    shipped = gin_configs_folder()
    written = Path(path).expanduser()
    folders = [Path(), shipped, shipped.parent]
    if including_file is not None:
        folders.insert(0, including_file.parent)
    for candidate in [written, written.with_name(written.name + ".gin")] if written.name else []:
        for folder in folders:
            if (folder / candidate).is_file():
                return folder / candidate
    known = {}
    for folder in [*(folder / written.parent for folder in folders), shipped, shipped / "base"]:
        for found in sorted(folder.glob("*.gin")) if folder.is_dir() else []:
            known.setdefault(found.name, found)
    near = nearest(written.name.removesuffix(".gin") + ".gin", known)
    hint = f" Did you mean {' or '.join(str(known[name]) for name in near)}?" if near else ""
    if written.is_dir():
        hint = " It is a folder: name a file in it." + hint
    raise UserError(f"gin file {path!r} not found (looked in the current folder, then in {shipped}).{hint}")
