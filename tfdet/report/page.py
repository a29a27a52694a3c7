"""Self-contained HTML pages: templates, pictures and charts that need no other file and no network."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdet.files import replacing
from tfdet.text import printable

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"

# What of a chart is no part of HTML: the file's head, who made it (with addresses), a style for all of the page,
# namespaces, its size in points. Letters are the page's.
_NOT_INLINE = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_FONT = re.compile(r"\bfont: (?:\w+ )*([\d.]+px) [^;\"]*")
_FONT_FAMILY = re.compile(r"\bfont-family: [^;\"]*;? ?")
_NAMESPACES = re.compile(r' xmlns(:\w+)?="[^"]*"')
_ROOT = re.compile(r'<svg\b[^>]*?viewBox="([^"]*)"[^>]*>')
_NAMES = re.compile(r'(\bid="|url\(#|href="#)')
_PIXELS_PER_POINT = 4 / 3  # CSS


def render(template: str, **values: Any) -> str:
    """Fills in a template; what is filled in is text, never HTML, unless it is `Markup`.

    Args:
        template: name of a file in tfdet/report/templates; it extends `base.html`, whose blocks it fills.
        values: by the names that the template uses. Text from outside is escaped, and characters that would turn a
            line around or are no characters are shown as `\\u202e`.

    Returns:
        The page.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.
    """
    return _environment().get_template(template).render(**values)


def picture_uri(image: np.ndarray, *, max_side: int | None = None, quality: int = 85) -> str:
    """A picture as an address that holds it: `data:image/jpeg;base64,...`.

    Args:
        image: uint8 [H, W, 3], RGB.
        max_side: a larger picture is made smaller, so that its longer side has so many pixels; None: as it is.
        quality: of the JPEG, 1..95.

    Returns:
        The text for `src`.

    Raises:
        ValueError: the image is not uint8 [H, W, 3].
    """
    from PIL import Image

    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Expected a uint8 image of shape [H, W, 3]. Received: {image.dtype} {image.shape}")
    picture = Image.fromarray(image)
    if max_side is not None and max(picture.size) > max_side:
        scale = max_side / max(picture.size)
        picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def figure_svg(figure: Any, label: str = "") -> Markup:
    """A matplotlib figure as inline SVG that is as wide as its place, with letters that remain text.

    Black becomes the colour of the page's text and white that of its ground, so that charts follow light and dark.
    For a phone (some 340 pixels) a figure is best 4.6 inches wide with letters of 9 points or more.

    Args:
        figure: a `matplotlib.figure.Figure`; it needs no window. Names from outside are in it as `chart_text`.
        label: what the chart shows, for those who hear the page.

    Returns:
        `<svg ...>...</svg>`, safe in a template.
    """
    import matplotlib
    from markupsafe import Markup, escape

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfdet"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = _NAMESPACES.sub("", _NOT_INLINE.sub("", file.getvalue())).replace("xlink:href", "href").strip()
    text = _FONT_FAMILY.sub("", _FONT.sub(r"font-size: \1", text))
    own = "f" + hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:10] + "-"
    text = _NAMES.sub(rf"\g<1>{own}", text)  # a page has several charts, each of which names its parts alike
    text = text.replace("#000000", "currentColor").replace("#ffffff", "var(--ground)")
    viewport = _ROOT.search(text)
    width = float(viewport[1].split()[2]) * _PIXELS_PER_POINT
    root = (
        f'<svg class="chart" viewBox="{viewport[1]}" style="max-width:{width:.0f}px" role="img" '
        f'aria-label="{escape(printable(label))}">'
    )
    return Markup(text[: viewport.start()] + root + text[viewport.end() :])


def chart_text(text: str) -> str:
    """A name from outside as matplotlib takes it: shown as it is, without mathematics between dollars."""
    return printable(text).replace("$", r"\$")


def write_page(path: str | os.PathLike, html: str) -> None:
    """Writes a page to a temporary name beside `path`, then renames it.

    Args:
        path: the file; its folder is made where it is missing.
        html: of `render`.

    Raises:
        UserError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
