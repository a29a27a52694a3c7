"""The page of a report: whole, readable without a network, and safe from the names in it."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tfdet.report.analysis.advice import Context
from tfdet.report.analysis.scene import build_scene
from tfdet.report.analysis.summary import analyse
from tfdet.report.report_page import DataSide, Story, report_html

HOSTILE = '<img src=x onerror=alert(1)>"$a$\u202e'
CLASSES = [HOSTILE, "cell"]


class Elements(HTMLParser):
    """The names of the elements and attributes of a page."""

    def __init__(self, html):
        super().__init__()
        self.names, self.attributes = set(), set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def page(found, classes=CLASSES, read=lambda number: np.full([60, 90, 3], 120, np.uint8), masks=False):
    truth = {
        "images": [{"id": n, "height": 60, "width": 90, "file_name": f"{n}{HOSTILE}.jpg"} for n in (1, 2)],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400.0, "iscrowd": 0},
            {"image_id": 2, "category_id": 1, "bbox": [40, 10, 30, 20], "area": 600.0, "iscrowd": 0},
        ],
    }
    if masks:
        truth["annotations"][0]["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]
    kinds = {"boxes": "bbox", "masks": "segm"} if masks else {"boxes": "bbox"}
    numbers = range(1, len(classes) + 1)
    analyses = {what: analyse(build_scene(truth, found, classes, numbers, kind)) for what, kind in kinds.items()}
    side = DataSide(HOSTILE, 2, [2] + [0] * (len(classes) - 1), np.array([400.0, 600.0]))
    story = Story(
        "Report of a run", "today", {"run": HOSTILE}, Context(), None, None, None, side, {"tfdet": "0"}, [HOSTILE]
    )
    return report_html(analyses, story, read, num_worst=5)


FOUND = [
    {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9},
    {"image_id": 2, "category_id": 2, "bbox": [40, 10, 30, 20], "score": 0.95},
    {"image_id": 2, "category_id": 1, "bbox": [0, 40, 9, 9], "score": 0.92},
]


def test_the_page_holds_all_it_needs_and_names_are_text():
    html = page(FOUND)
    elements = Elements(html)
    assert not re.search("https?:|\u202e", html) and "onerror" not in elements.attributes
    assert "img" not in elements.names and {"svg", "table", "rect"} <= elements.names
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*", html) == []
    for part in ("summary", "errors-boxes", "classes-boxes", "images", "data", "about"):
        assert f'id="{part}"' in html and f'href="#{part}"' in html
    assert html.count("data:image/jpeg") == 1  # one of two images has errors; its picture is there once
    links = set(re.findall(r'<a href="#((?:truth|found)-[\d-]+)"', html))
    assert links and links <= set(re.findall(r'<g [^>]*id="([^"]+)"', html))  # each error has its box
    assert html.count("$a$") > 4 and len(html) < 400_000


def test_masks_are_drawn_and_a_picture_that_cannot_be_read_is_said():
    found = [{**FOUND[0], "segmentation": [[10, 10, 12, 10, 12, 30, 10, 30]]}]
    html = page(found, read=lambda number: None, masks=True)
    assert 'id="errors-masks"' in html and re.search(r'<path class="mask"[^>]* d="M10 10', html)
    assert "The picture could not be read" in html and "data:image/jpeg" not in html


@pytest.mark.parametrize("classes", [CLASSES, [f"class {n}" for n in range(40)]], ids=["2", "40"])
def test_nothing_found_and_many_classes(classes):
    html = page([], classes)
    assert "Nothing was found" in html and "nan" not in re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL).lower()
    if len(classes) > 16:
        assert "24 other classes" in html
