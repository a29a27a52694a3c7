"""Classes are compared by name: of a model and of data, of data and of annotations."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, PictureInput
from tfdet.errors import UserError
from tfdet.evaluate.classes import in_data_classes, match_classes, match_model, with_data_ids
from tfdet.evaluate.coco import CocoEvaluator
from tfdet.evaluate.during_training import EvaluationDuringTraining
from tfdet.evaluate.run import evaluate
from tfdet.structures import Detections

PICTURES = [(64, 128, {0: (10, 8, 41, 47), 1: (60, 4, 99, 43)}), (32, 48, {2: (4, 6, 27, 29)})]


class Backwards(PictureInput):
    """The pictures of the fakes as a data set that lists its classes backwards."""

    def __init__(self, classes=tuple(CLASSES[::-1])):
        super().__init__(PICTURES)
        self.manifest = SimpleNamespace(
            name="backwards", classes=list(classes), category_ids=CATEGORY_IDS[::-1], num_images=len(PICTURES)
        )

    def _batch(self, part, resize):
        batch = super()._batch(part, resize)
        return batch._replace(classes=np.where(batch.classes >= 0, 2 - batch.classes, -1))


def test_equal_names_in_another_order_are_mapped():
    assert match_classes(["a", "b", "c"], ["c", "a", "b"], "one", "other") == [1, 2, 0]
    assert match_classes(["a", "a"], ["a", "a"], "one", "other") == [0, 1], "equal lists need no map"


@pytest.mark.parametrize(
    "other", [["a", "b"], ["a", "b", "C"], ["a", "b", "c", "d"], ["a", "b", "b"], [], ["c", "b ", "a"]]
)
def test_other_names_are_refused_with_both_lists(other):
    with pytest.raises(UserError) as caught:
        match_classes(["a", "b", "c"], other, "the model", "the data")
    message = str(caught.value)
    assert "the model and the data have different classes: 3 (a, b, c)" in message and "\n" not in message
    assert f"{len(other)} ({', '.join(other) or 'none'})" in message


def test_of_long_lists_what_differs_is_named_first():
    own = [f"name {k}" for k in range(80)]
    with pytest.raises(UserError, match=r"80 \(name 77, name 0, .*and 60 more\) and 80 \(cat, name 0, ") as caught:
        match_classes(own, [*own[:77], "cat", *own[78:]], "one", "other")
    assert len(str(caught.value)) < 1000


def test_a_model_without_names_has_as_many_classes():
    manifest = SimpleNamespace(name="m", classes=["a", "b"])
    assert match_model(2, None, manifest) == match_model(2, [], manifest) == [0, 1]
    with pytest.raises(UserError, match=r"the detector has 3 classes and the data set 'm' has 2 \(a, b\)"):
        match_model(3, None, manifest)


def test_padding_stays_and_unknown_classes_are_refused():
    found = Detections(None, None, np.int32([[2, 0, -1]]), np.int32([2]))
    np.testing.assert_array_equal(in_data_classes(found, [1, 2, 0]).classes, [[0, 1, -1]])
    with pytest.raises(UserError, match="finds class 3, and the data set has 2"):
        in_data_classes(found, [0, 1])


def test_figures_do_not_depend_on_the_order_of_the_datas_classes():
    plain = evaluate(ColorDetector(), PictureInput(PICTURES), classes=CLASSES)
    turned = evaluate(ColorDetector(), Backwards(), num_samples=1, classes=CLASSES)
    assert turned.metrics == pytest.approx(plain.metrics) and plain.metrics["AP50"] == pytest.approx(1.0)
    assert turned.detections == plain.detections
    expected = {entry.name: pytest.approx(entry.ap) for entry in plain.per_class}
    assert {entry.name: entry.ap for entry in turned.per_class} == expected
    (sample,) = turned.samples
    np.testing.assert_array_equal(sample.classes, sample.gt_classes)
    assert [turned.classes[kind] for kind in sample.classes] == ["red", "green"]


def test_evaluation_during_training_maps_and_refuses_before_it_begins():
    evaluation = EvaluationDuringTraining(ColorDetector(), Backwards(), classes=CLASSES)
    assert evaluation(1)["AP50"] == pytest.approx(1.0)
    with pytest.raises(UserError, match=r"3 \(red, green, blue\) and 3 \(blue, green, cyan\)"):
        EvaluationDuringTraining(ColorDetector(), Backwards(["blue", "green", "cyan"]), classes=CLASSES)


def annotations(ids, names, source=None):
    """The ground truth of the fakes with other ids: `ids[k]` is of CLASSES[k]; listed in the order of `names`."""
    truth = copy.deepcopy((source or PictureInput(PICTURES)).ground_truth())
    new = dict(zip(CATEGORY_IDS, ids))
    for entry in truth["annotations"]:
        entry["category_id"] = new[entry["category_id"]]
    truth["categories"] = [{"id": ids[CLASSES.index(name)], "name": name} for name in names]
    return truth


def class_counts(truth, manifest):
    """Boxes by class name as they are measured."""
    evaluator = CocoEvaluator(truth, manifest)
    for image in truth["images"]:
        nothing = np.zeros([1, 0], np.float32)
        evaluator.add([image["id"]], Detections(np.zeros([1, 0, 4]), nothing, nothing, np.int32([0])))
    return {entry.name: entry.num_boxes for entry in evaluator.result().per_class}


def test_annotations_are_measured_by_the_names_of_their_categories():
    truth = annotations([7, 13, 90], ["blue", "red", "green"])
    before = copy.deepcopy(truth)
    assert evaluate(ColorDetector(), PictureInput(PICTURES), ground_truth=truth).metrics["AP50"] == pytest.approx(1.0)
    assert truth == before


@pytest.mark.parametrize("write", [int, str, float, "{}.0".format, " {} ".format])
def test_category_ids_of_annotations_may_be_written_in_several_ways(write):
    """In `categories` in one way, in `annotations` in another; listed in another order, one category twice."""
    source = PictureInput([*PICTURES, (32, 48, {0: (4, 6, 27, 29)})])
    for ids in (CATEGORY_IDS, [7, 13, 90], [1, 2, 3]):
        for first, second in ((write, int), (int, write)):
            truth = annotations(ids, ["blue", "red", "green"], source)
            for entry in truth["categories"]:
                entry["id"] = first(entry["id"])
            for entry in truth["annotations"]:
                entry["category_id"] = second(entry["category_id"])
            truth["categories"].append(dict(truth["categories"][0]))
            assert class_counts(truth, source.manifest) == {"red": 2, "green": 1, "blue": 1}


def test_names_that_are_numbers_are_names():
    source = PictureInput([*PICTURES, (32, 48, {0: (4, 6, 27, 29)})])
    source.manifest.classes = ["0", "1", "2"]
    truth = annotations([7, 13, 90], CLASSES, source)
    for number, entry in enumerate(truth["categories"]):
        entry["name"] = number
    assert class_counts(truth, source.manifest) == {"0": 2, "1": 1, "2": 1}
    del truth["categories"][1]["name"]
    with pytest.raises(UserError, match=r"no name to 1 of 3 categories \(id 13\)"):
        CocoEvaluator(truth, source.manifest)


def test_an_id_that_annotations_do_not_define_is_no_class_of_the_data():
    source = PictureInput(PICTURES)
    truth = annotations([1, 2, 3], CLASSES)
    truth["annotations"].append({**truth["annotations"][0], "category_id": CATEGORY_IDS[0], "bbox": [1, 1, 9, 9]})
    assert class_counts(truth, source.manifest) == dict.fromkeys(CLASSES, 1)


def test_annotations_of_images_of_other_sizes_are_refused():
    source = PictureInput(PICTURES)
    for height, width in ((4000, 6000), (128, 64), (64, 127)):
        truth = source.ground_truth()
        truth["images"][0] |= {"height": height, "width": str(width), "file_name": "a.jpg"}
        message = rf"image id 1000 \('a.jpg'\) is {width}x{height} there and 128x64 in the data set, 1 of 2 images"
        with pytest.raises(UserError, match=message):
            evaluate(ColorDetector(), source, ground_truth=truth, detect=pytest.fail)
    truth["images"][0] |= {"height": None, "width": 0}
    truth["images"].append({"id": 5, "height": 9, "width": 9})
    evaluator = CocoEvaluator(truth, source.manifest)
    evaluator.check_sizes(source.image_sizes())  # what has no size, or is not in the data set, is not compared


def test_annotations_of_other_classes_are_refused_at_the_start():
    truth = annotations(CATEGORY_IDS, CLASSES)
    truth["categories"][0]["name"] = "scarlet"
    detect = pytest.fail
    with pytest.raises(
        UserError, match=r"the annotations and the data set 'pictures' .*scarlet, green, blue\) and 3 \(red"
    ):
        evaluate(ColorDetector(), PictureInput(PICTURES), ground_truth=truth, detect=detect)


def test_categories_without_names_are_taken_by_their_ids():
    truth = annotations(CATEGORY_IDS, CLASSES)
    for entry in truth["categories"]:
        del entry["name"]
    assert with_data_ids(truth, PictureInput([]).manifest) is truth
    assert class_counts(truth, PictureInput([]).manifest) == dict.fromkeys(CLASSES, 1)
