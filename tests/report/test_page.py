"""Pages hold all they need, and nothing in them is taken for HTML that is not."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tfdet.errors import UserError
from tfdet.report import page

HOSTILE = '<script>alert(1)</script>" onload="x & \u202eevil\udce9 $a$'


def figure(title):
    made = Figure(figsize=(4.6, 3))
    axes = made.subplots()
    axes.plot([0, 1], [1, 0], marker="o")
    axes.set_title(title)
    return made


def test_names_are_text(tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text("<p title=\"{{ name }}\">{{ name }}</p>{{ {'n': name} | tojson }}{{ chart }}")
    monkeypatch.setattr(page, "TEMPLATES", tmp_path)
    page._environment.cache_clear()
    try:
        html = page.render("a.html", name=HOSTILE, chart=page.figure_svg(figure(page.chart_text(HOSTILE)), HOSTILE))
    finally:
        page._environment.cache_clear()
    assert "<script" not in html and not re.search('<[^>]*onload="', html)
    assert html.count("\\u202eevil\\xe9 $a$") == 4
    page.write_page(tmp_path / "pages" / "a.html", html)
    assert (tmp_path / "pages" / "a.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        page.write_page(tmp_path / "a.html" / "b.html", html)


def test_a_chart_is_part_of_the_page():
    first, second = page.figure_svg(figure("losses")), page.figure_svg(figure("AP"))
    assert page.figure_svg(figure("losses")) == first
    assert first.startswith("<svg") and first.endswith("</svg>")
    assert "http" not in first and ">losses</text>" in first  # no address; letters remain letters
    names = [set(re.findall(r'\bid="([^"]+)"', chart)) for chart in (first, second)]
    assert names[0] and not names[0] & names[1]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', first))
    assert used and used <= names[0]
    assert "#000000" not in first and "currentColor" in first


def test_a_picture_is_part_of_the_page():
    image = np.full([30, 60, 3], (200, 30, 30), np.uint8)
    uri = page.picture_uri(image, max_side=20)
    head, _, content = uri.partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == "data:image/jpeg;base64" and picture.size == (20, 10)
    assert np.abs(np.asarray(picture, int) - (200, 30, 30)).max() < 6
    with pytest.raises(ValueError, match="uint8 image"):
        page.picture_uri(image.astype(np.float32))
