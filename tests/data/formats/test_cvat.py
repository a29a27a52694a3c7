import numpy as np
import pytest

from tests.data.formats import written
from tfdet.data.conversion import read_source
from tfdet.data.formats.recognise import recognise
from tfdet.data.problems import ProblemReport
from tfdet.data.rle import counts_from_string, mask_from_counts
from tfdet.errors import UserError

PHOTO = written.PHOTOS[1]  # 40 high, 60 wide
HEAD = "<annotations><version>1.1</version><meta><job><labels><label><name>dog</name></label><label><name>cat</name>"
HEAD += "</label><label><name>day</name><type>tag</type></label></labels></job></meta>"
IMAGE = '<image id="0" name="{}" subset="{}" width="60" height="40">{}</image>'


def read(folder, *shapes, name=PHOTO.name, subset="default", head=HEAD):
    written.pictures(folder / "images", [PHOTO])
    (folder / "annotations.xml").write_text(head + IMAGE.format(name, subset, "".join(shapes)) + "</annotations>")
    report = ProblemReport()
    return read_source(recognise(folder), report), report


def test_every_kind_of_shape(tmp_path):
    annotations, report = read(
        tmp_path / "in",
        '<box label="cat" xtl="1" ytl="2" xbr="11.5" ybr="9"></box>',
        '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"></box>',
        '<polygon label="dog" points="1,1;9,1;9,5" group_id="3"></polygon>',
        '<polygon label="dog" points="20,1;29,1;29,5" group_id="3"></polygon>',
        '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5"></ellipse>',
        '<mask label="cat" rle="1, 3, 2" left="10" top="20" width="3" height="2"></mask>',
        '<tag label="day"></tag>',
    )
    box, turned, ellipse, mask, parts = annotations.images[0].objects
    assert [category.name for category in annotations.categories] == ["dog", "cat"]
    assert (box.x, box.y, box.width, box.height, box.category_id) == (1, 2, 10.5, 7, 2)
    assert (turned.x, turned.y, turned.width, turned.height) == pytest.approx((15, 5, 10, 20))
    assert len(parts.segmentation) == 2 and parts.area == 34
    assert ellipse.area == pytest.approx(50 * np.pi, rel=0.01) and ellipse.width == 20
    drawn = mask_from_counts(counts_from_string(mask.segmentation["counts"]), 40, 60)
    np.testing.assert_array_equal(drawn[20:22, 10:13], [[0, 1, 1], [1, 0, 0]])
    assert drawn.sum() == mask.area == 3
    assert report.counts() == {"shape without extent": 1}
    (image,) = read(tmp_path / "in", '<box label="cat" xtl="1" ytl="2" xbr="3" ybr="4"/>', subset="Train")[0].images
    assert image.split == "train"


def test_a_bad_shape_is_named(tmp_path):
    bad = {
        "xtl is 'a', and must be a number": '<box label="cat" xtl="a" ytl="2" xbr="11.5" ybr="9"></box>',
        "ytl is null": '<box label="cat" xtl="1" xbr="11.5" ybr="9"></box>',
        "xtl=5 ytl=2 xbr=5 ybr=9 has no extent": '<box label="cat" xtl="5" ytl="2" xbr="5" ybr="9"></box>',
        "points '1,1;2,2' are no polygon": '<polygon label="cat" points="1,1;2,2"></polygon>',
        "points '1,1;2;3,3' are no polygon": '<polygon label="cat" points="1,1;2;3,3"></polygon>',
        "its rle sums to 5": '<mask label="cat" rle="1,4" left="1" top="2" width="3" height="2"></mask>',
        "'-1' is no whole number": '<mask label="cat" rle="-1,7" left="1" top="2" width="3" height="2"></mask>',
        "goes over the border": '<mask label="cat" rle="1,5" left="59" top="2" width="3" height="2"></mask>',
        "<heart> is no shape": '<heart label="cat"/>',
        "'owl', which is not in the list": '<box label="owl" xtl="1" ytl="2" xbr="11.5" ybr="9"></box>',
        "has no class": '<box xtl="1" ytl="2" xbr="11.5" ybr="9"></box>',
    }
    annotations, report = read(tmp_path / "in", *bad.values())
    assert annotations.images[0].objects == []
    reasons = [problem.reason for problem in report.problems]
    for number, text in enumerate(bad, 1):
        assert any(text in reason and f" {number} " in reason for reason in reasons), (text, reasons)
    assert all(problem.file.endswith("annotations.xml") for problem in report.problems)


def test_wrong_files_are_one_line(tmp_path):
    annotations, report = read(tmp_path / "in", name="gone.jpg")
    assert report.counts() == {"annotation without image": 1} and "'gone.jpg'" in report.problems[0].reason
    for head, message in (
        ("<annotations><track/><image/>", "xml for video: export the task as"), ("<annotations><a>", "not valid xml"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            read(tmp_path / "in", head=head)
