"""Text of any script on pictures: for every character the first font that has it.

DejaVu Sans comes with matplotlib and has Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic. Other scripts
are taken from the system's fonts, Noto's first. Direction and joined letters are laid out by Pillow with raqm, where it
has that.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_DEJAVU = Path("mpl-data/fonts/ttf/DejaVuSans.ttf")
_ENDINGS = (".ttf", ".otf", ".ttc")
# Beside Noto Sans: what systems bring for Chinese, Japanese, Korean and for many scripts at once.
_OTHERS = (
    "wqy-", "droidsansfallback", "sourcehansans", "unifont", "pingfang", "hiragino", "applesdgothicneo",
    "arial unicode", "msyh", "msgothic", "yugothm", "malgun", "nirmala", "leelawui", "ebrima", "segoeui",
)  # fmt: skip
_NEED_NO_GLYPH = ("Mn", "Me", "Cf", "Cc", "Zs")


def draw_text(draw: Any, at: tuple[float, float], text: str, size: int, fill: tuple[int, int, int]) -> None:
    """Draws a line of text.

    Args:
        draw: a PIL ImageDraw.
        at: left end and baseline, pixels.
        text: without line feeds.
        size: of the font, pixels.
        fill: its colour.
    """
    x, baseline = at
    for part, path in runs(text):
        font = _font(path, size)
        draw.text((x, baseline), part, font=font, fill=fill, anchor="ls")
        x += font.getlength(part)


def measure(text: str, size: int) -> tuple[int, int, int]:
    """Width of a line of text, and its height above and below the baseline, in pixels.

    Args:
        text: without line feeds.
        size: of the font, pixels.
    """
    width, above, below = 0.0, 0, 0
    for part, path in runs(text):
        font = _font(path, size)
        left, top, right, bottom = font.getbbox(part, anchor="ls")
        width += max(font.getlength(part), right)
        above, below = max(above, -top), max(below, bottom)
    return int(width + 0.999), int(above), int(below)


def can_show(text: str) -> bool:
    """Whether there is a letter for every character."""
    return text.isascii() or all(_font_of(character) is not None for character in text if _needs_glyph(character))


def runs(text: str) -> list[tuple[str, str]]:
    """A text cut where the font changes, and the path of the font of each part, in the order that they are drawn.

    What reads from right to left is drawn so within a part; where the text begins with such a letter, its last part
    stands leftmost.
    """
    first = str(dejavu())
    if text.isascii():
        return [(text, first)] if text else []
    parts: list[tuple[str, str]] = []
    for character in text:
        path = parts[-1][1] if parts else first
        if _needs_glyph(character):
            path = _font_of(character) or path
        if parts and parts[-1][1] == path:
            parts[-1] = (parts[-1][0] + character, path)
        else:
            parts.append((character, path))
    return parts[::-1] if _reads_leftwards(text) else parts


def _needs_glyph(character: str) -> bool:
    return unicodedata.category(character) not in _NEED_NO_GLYPH


def _reads_leftwards(text: str) -> bool:
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((way for way in directions if way in ("L", "R", "AL")), "L") != "L"


@functools.cache
def dejavu() -> Path | str:
    """The file of DejaVu Sans; an empty text where matplotlib does not bring it, which stands for Pillow's own font."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if os.path.isfile(Path(folder) / _DEJAVU):
            return Path(folder) / _DEJAVU
    return ""


@functools.lru_cache(maxsize=64)
def _font(path: str, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size=size)


@functools.lru_cache(maxsize=4096)
def _font_of(character: str) -> str | None:
    """The path of the first font that has a character."""
    for path in _paths():
        face = _face(path)
        if face is not None and face.get_char_index(ord(character)):
            return path
    return None


@functools.cache
def _paths() -> list[str]:
    """DejaVu Sans, then the system's fonts for other scripts: Noto Sans regular ones first."""
    found: dict[str, tuple[int, str]] = {}
    for folder in _folders():
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                rank = _rank(name.lower())
                if rank is not None:
                    found.setdefault(os.path.join(parent, name), (rank, name.lower()))
    others = sorted(found, key=lambda path: (found[path], path))
    return [str(dejavu()), *others] if dejavu() else others


def _rank(name: str) -> int | None:
    """The place of a font file among those that are asked; None: it is not asked."""
    if not name.endswith(_ENDINGS):
        return None
    if name.startswith("notosans"):
        regular = "-regular" in name or "-" not in name
        return None if not regular or "mono" in name else 0 if "cjk" not in name else 1
    return 2 if any(name.startswith(other) for other in _OTHERS) else None


def _folders() -> Iterable[str]:
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        return ["/Library/Fonts", "/System/Library/Fonts", f"{home}/Library/Fonts"]
    if sys.platform == "win32":
        return [os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")]
    return ["/usr/share/fonts", "/usr/local/share/fonts", f"{home}/.local/share/fonts", f"{home}/.fonts"]


@functools.lru_cache(maxsize=512)
def _face(path: str) -> Any:
    """What knows which characters a font has; None: the file is no font."""
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError, ValueError):
        return None
