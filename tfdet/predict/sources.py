"""Which image files a person means by files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from tfdet.errors import UserError

#: What is taken from a folder. A file that is named itself is read whatever its ending.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def find_images(inputs: Sequence[str]) -> list[str]:
    """Finds the images that files, folders and patterns name.

    Args:
      inputs: each a file, a folder (its images, not those of folders inside) or a pattern (`**` goes into folders).

    Returns:
      Paths, in the order of the inputs, sorted within a folder or pattern, each once. A file that is named itself is
      among them even when it is not there: reading it will say so.

    Raises:
      UserError: there is no image.
    """
    paths: dict[str, None] = {}
    for entry in inputs:
        if os.path.isdir(entry):
            names = sorted(os.listdir(entry))
            found = [os.path.join(entry, name) for name in names if name.lower().endswith(EXTENSIONS)]
        elif os.path.lexists(entry) or not glob.has_magic(entry):
            found = [entry]
        else:
            found = [path for path in sorted(glob.glob(entry, recursive=True)) if os.path.isfile(path)]
        paths.update(dict.fromkeys(found))
    if not paths:
        raise UserError(
            f"no image found in {', '.join(map(str, inputs))}: give image files, folders of them or patterns"
        )
    return list(paths)
