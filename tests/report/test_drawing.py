"""Drawn pictures: the right colour at the right pixels, at small and large sizes."""

import dataclasses
import itertools

import numpy as np
import pytest

from tfdet.report import fonts
from tfdet.report.drawing import class_color, draw_detections, draw_samples
from tfdet.report.labels import LabelPlaces


def gray(height=160, width=160):
    return np.full([height, width, 3], 128, np.uint8)


def where(picture, color):
    """Rows and columns of the pixels of exactly this colour."""
    return np.nonzero(np.all(picture == np.array(color, np.uint8), axis=-1))


@pytest.mark.parametrize("size", [160, 1333])
def test_box_lies_on_its_pixels(size):
    box = np.array([0.25, 0.5, 0.75, 0.9]) * size
    picture = draw_detections(gray(size, size), [box], [2], [0.87], ["a", "b", "c"])
    left, top, right, bottom = np.round(box).astype(int)
    color = class_color(2)
    for row, column in [(top, left), (top, right), (bottom, left), (bottom, right)]:
        assert tuple(picture[row, column]) == color
    rows, columns = where(picture, color)
    assert rows.max() == bottom and columns.max() == right and columns.min() == left
    assert rows.min() < top - 8, "the label stands above the box"
    assert tuple(picture[(top + bottom) // 2, (left + right) // 2]) == (128, 128, 128)


def test_threshold_padding_and_bad_boxes_draw_nothing():
    boxes = np.array([[10, 10, 60, 60], [10, 10, 60, 60], [np.nan, 0, 5, 5], [50, 50, 40, 40]], np.float32)
    picture = draw_detections(gray(), boxes, [0, -1, 0, 0], [0.2, 0.9, 0.9, 0.9], score_threshold=0.3)
    np.testing.assert_array_equal(picture, gray())


def test_best_detection_is_on_top_and_the_image_is_not_changed():
    image = gray()
    boxes = np.tile(np.array([[40.0, 40, 100, 100]]), [2, 1])
    picture = draw_detections(image, boxes, [0, 1], [0.9, 0.5])
    assert tuple(picture[70, 40]) == class_color(0)
    picture = draw_detections(image, boxes, [0, 1], [0.5, 0.9])
    assert tuple(picture[70, 40]) == class_color(1)
    np.testing.assert_array_equal(image, gray())


def test_ground_truth_is_dashed():
    picture = draw_detections(gray(), np.zeros([0, 4]), [], gt_boxes=[[20, 30, 120, 100]], gt_classes=[1])
    edge = picture[60:95, 20]
    colored = np.all(edge == class_color(1), axis=-1)
    white = np.all(edge == 255, axis=-1)
    assert colored.any() and white.any() and np.all(colored | white)
    padded = draw_detections(gray(), np.zeros([0, 4]), [], gt_boxes=[[20, 30, 120, 100]], gt_classes=[-1])
    np.testing.assert_array_equal(padded, gray())


@pytest.mark.parametrize(
    "box", [[0, 0, 159, 159], [-50, -50, 300, 300], [150, 0, 159, 5], [0, 155, 3, 159], [20, 20, 20, 20]]
)
def test_labels_stay_inside_the_picture(box):
    picture = draw_detections(gray(), [box], [0], [0.5], ["a long class name"])
    rows, columns = where(picture, class_color(0))
    # A label is some 10 rows high and, with this name, more than half the picture wide.
    assert rows.max() - rows.min() >= 9 and columns.max() - columns.min() > 80
    assert (picture.max(-1) < 60).sum() > 50, "letters are there"


def test_tiny_picture_and_names_beyond_the_list():
    assert draw_detections(gray(1, 1), [[0, 0, 0, 0]], [40], [1.0], ["a"]).shape == (1, 1, 3)
    assert draw_detections(gray(), [[5, 5, 50, 50]], [1], [1.0], ["żółw", "名前"]).shape == (160, 160, 3)


def test_colors_of_80_classes_are_told_apart_and_seen_on_black_and_white():
    colors = np.array([class_color(index) for index in range(80)], int)
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=-1) + 999 * np.eye(80, dtype=int)
    assert apart.min() >= 35 and tuple(colors[0]) == class_color(240)
    luminance = colors @ [0.2126, 0.7152, 0.0722]
    assert luminance.min() > 35 and luminance.max() < 240


def test_wrong_image_is_refused():
    with pytest.raises(ValueError, match="float32"):
        draw_detections(np.zeros([4, 4, 3], np.float32), [], [])


@dataclasses.dataclass
class Sample:
    image: np.ndarray
    gt_boxes: np.ndarray
    gt_classes: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None


def test_samples_show_truth_left_and_detections_right_at_a_smaller_size():
    box = np.array([[200.0, 400, 600, 800]])
    sample = Sample(gray(1000, 1600), box, np.array([0]), box, np.array([1]), np.array([0.9]))
    (picture,) = draw_samples([sample], ["a", "b"], max_side=800)
    assert picture.shape == (500, 800 + 4 + 800, 3)
    assert where(picture, class_color(0))[1].max() <= 301
    right = where(picture, class_color(1))[1]
    assert right.min() == 804 + 100 and right.max() == 804 + 300


def test_masks_are_veils_in_the_colour_of_their_class():
    image = gray()
    mask = np.zeros([2, 28, 28], np.float32)
    mask[:, :, :14] = 1.0
    boxes = np.array([[20, 40, 79, 99], [100, 100, 140, 140]], np.float32)
    picture = draw_detections(image, boxes, [1, 0], [0.9, 0.2], score_threshold=0.3, masks=mask)
    veil = (np.array(class_color(1), int) + 128) // 2
    assert tuple(picture[70, 35]) == tuple(veil)
    assert tuple(picture[70, 70]) == (128, 128, 128), "outside the mask"
    assert tuple(picture[120, 110]) == (128, 128, 128), "below the threshold"
    edge = where(picture[45:95, 25:75], class_color(1))[1] + 25
    assert set(edge) and np.ptp(edge) <= 1 and abs(edge.mean() - 50) <= 2, "the mask's edge stands in full colour"
    np.testing.assert_array_equal(image, gray())


def test_labels_of_one_place_do_not_hide_each_other():
    boxes = np.tile(np.array([[150.0, 100, 250, 200]]), [4, 1])
    names = ["first", "second", "third", "fourth"]
    picture = draw_detections(gray(300, 400), boxes, [0, 1, 2, 3], [0.9, 0.8, 0.7, 0.6], names)
    places = LabelPlaces(400, 300, boxes)
    found = [places.find((150, 100, 250, 200), 60, 14) for _ in names]
    assert len(set(found)) == 4 and found[0] == (150, 86)
    for one, other in itertools.combinations(found, 2):
        assert abs(one[0] - other[0]) >= 60 or abs(one[1] - other[1]) >= 14
    assert all((where(picture, class_color(index))[0]).size > 300 for index in range(4)), "each has a label"


def test_labels_keep_off_small_objects_and_leave_most_of_the_picture_free():
    places = LabelPlaces(200, 100, np.array([[50, 40, 90, 80], [50, 28, 70, 39]]))
    left, top = places.find((50, 40, 90, 80), 40, 12)
    assert not (50 <= left + 39 and left <= 70 and 28 <= top + 11 and top <= 39)
    crowd = LabelPlaces(100, 50, np.zeros([0, 4]))
    found = [crowd.find((10 * n, 20, 10 * n + 9, 29), 40, 12) for n in range(10)]
    placed = [place for place in found if place is not None]
    assert found[0] is not None and len(placed) == 2, (
        "two labels of 40x12 cover a fifth of it, three more than a quarter"
    )
    assert LabelPlaces(30, 50, np.zeros([0, 4])).find((0, 0, 9, 9), 40, 12) is None


@pytest.mark.parametrize("name", ["żółw", "كلب", "כלב", "Ελλάδα", "кот", "a\nb\x1b[31m"])
def test_names_of_many_scripts_are_drawn_with_letters(name):
    picture = draw_detections(gray(), [[20, 60, 120, 140]], [0], [0.5], [name])
    other = draw_detections(gray(), [[20, 60, 120, 140]], [0], [0.5], ["class 0"])
    assert (picture != other).any(), "its own letters, not the number of the class"


def test_a_name_that_no_font_has_becomes_the_number_of_its_class(monkeypatch):
    monkeypatch.setattr(fonts, "_font_of", lambda character: None)
    picture = draw_detections(gray(), [[20, 60, 120, 140]], [0], [0.5], ["\U0001d2e0"])
    np.testing.assert_array_equal(picture, draw_detections(gray(), [[20, 60, 120, 140]], [0], [0.5], ["class 0"]))


def test_fonts_change_within_a_text_and_its_parts_go_leftwards_where_it_does(monkeypatch):
    monkeypatch.setattr(fonts, "_font_of", lambda character: "han" if "\u4e00" <= character <= "\u9fff" else "deja")
    monkeypatch.setattr(fonts, "dejavu", lambda: "deja")
    assert fonts.runs("猫 cat") == [("猫 ", "han"), ("cat", "deja")]
    assert fonts.runs("كلب 猫") == [("猫", "han"), ("كلب ", "deja")]
    assert fonts.runs("") == [] and fonts.runs("dog") == [("dog", "deja")]


def test_lines_and_letters_grow_with_the_picture():
    measured = []
    for side in (160, 640, 2560):
        box = np.array([0.25, 0.5, 0.75, 0.9]) * side
        rows, columns = where(draw_detections(gray(side, side), [box], [2], [0.87], ["a", "b", "c"]), class_color(2))
        measured.append((int((rows == side * 7 // 10).sum() // 2), int(box[1] - rows.min())))
    assert [line for line, _ in measured] == [1, 2, 6]
    assert measured[0][1] < measured[1][1] < measured[2][1] / 2
