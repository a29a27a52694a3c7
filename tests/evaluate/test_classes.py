"""Classes are compared by name: of a model and of data, of data and of annotations."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, PictureInput
from tfdet.errors import UserError
from tfdet.evaluate.classes import in_data_classes, match_classes, match_model, with_data_ids
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


def annotations(ids, names):
    """The ground truth of the fakes with other ids: `ids[k]` is of CLASSES[k]; listed in the order of `names`."""
    truth = copy.deepcopy(PictureInput(PICTURES).ground_truth())
    new = dict(zip(CATEGORY_IDS, ids))
    for entry in truth["annotations"]:
        entry["category_id"] = new[entry["category_id"]]
    truth["categories"] = [{"id": ids[CLASSES.index(name)], "name": name} for name in names]
    return truth


@pytest.mark.parametrize("ids", [CATEGORY_IDS, [1, 2, 3], [7, 13, 90], ["7", "13", "90"], [7.0, 13.0, 90.0]])
def test_annotations_are_measured_by_the_names_of_their_categories(ids):
    truth = annotations(ids, ["blue", "red", "green"])
    before = copy.deepcopy(truth)
    assert evaluate(ColorDetector(), PictureInput(PICTURES), ground_truth=truth).metrics["AP50"] == pytest.approx(1.0)
    assert truth == before


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
