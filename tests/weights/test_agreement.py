"""Whether two lists of detections are the same."""

import numpy as np
import pytest

from tfdet.weights.agreement import Rows, mask_measures, matched_pairs, measures

RNG = np.random.default_rng(0)
CORNERS = RNG.uniform(0, 100, [100, 2])
ROWS = Rows(
    np.concatenate([CORNERS, CORNERS + RNG.uniform(10, 40, [100, 2])], axis=1).astype(np.float32),
    np.linspace(0.99, 0.3, 100).astype(np.float32),
    np.arange(100) % 30,
)


def wrong(theirs, ours):
    return {measure.name for measure in measures(theirs, ours) if not measure.passed}


def only(rows, kept):
    return Rows(*(array[kept] for array in rows[:3]))


def test_pairs_need_class_score_and_place():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 9, 9]])
    scores, classes = np.array([0.9, 0.8, 0.7]), np.array([1, 2, 3])
    own = boxes + [[0, 0, 0.01, 0], [0, 0, 0, 0], [1, 0, 1, 0]]
    theirs, ours, reverse = Rows(boxes, scores, classes), Rows(own, scores, classes), slice(None, None, -1)
    assert matched_pairs(theirs, ours) == [(0, 0), (1, 1)]
    assert matched_pairs(theirs, only(ours, reverse)) == [(0, 2), (1, 1)]
    assert matched_pairs(theirs, ours._replace(scores=scores + 0.01)) == []
    assert matched_pairs(theirs, ours._replace(classes=classes + 1)) == []
    assert matched_pairs(only(theirs, reverse), ours) == [(2, 0), (1, 1)]


def test_equal_lists_and_lists_in_another_order_agree():
    assert wrong(ROWS, ROWS) == set() == wrong(ROWS, only(ROWS, RNG.permutation(100)))
    empty = only(ROWS, slice(0, 0))
    assert wrong(empty, empty) == set()
    assert wrong(empty, ROWS) and wrong(ROWS, empty)


def test_the_last_ones_may_differ_and_the_best_may_not():
    assert wrong(ROWS, only(ROWS, slice(0, 98))) == set() == wrong(only(ROWS, slice(0, 98)), ROWS)
    assert wrong(ROWS, only(ROWS, slice(1, None))) == {"best detections that are not here"}
    assert wrong(only(ROWS, slice(1, None)), ROWS) == {"best detections that are only here"}
    assert wrong(ROWS, only(ROWS, np.r_[:19, 20:100])) == {"best detections that are not here"}
    assert wrong(ROWS, only(ROWS, slice(0, 97))) == {"detections without counterpart", "detections more or fewer"}


def test_two_classes_that_changed_places_are_found():
    classes = ROWS.classes.copy()
    classes[[90, 95]] = classes[[95, 90]]
    assert wrong(ROWS, ROWS._replace(classes=classes)) == {"detections of another class"}


@pytest.mark.parametrize("field", ["boxes", "scores"])
def test_what_is_no_number_matches_nothing(field):
    nans = ROWS._replace(**{field: np.full_like(getattr(ROWS, field), np.nan)})
    assert wrong(ROWS, nans) >= {"detections without counterpart", "best detections that are not here"}
    assert wrong(nans, ROWS) >= {"detections without counterpart", "best detections that are only here"}


def test_a_row_that_the_other_list_may_have_cut_off_is_not_asked_for():
    theirs = ROWS._replace(scores=np.linspace(0.5003, 0.5, 100).astype(np.float32))
    ours = only(theirs, RNG.permutation(100)[:99])
    assert wrong(theirs, ours) == set()


def test_masks_are_compared_one_by_one():
    masks = np.zeros([30, 64, 64], bool)
    for number, mask in enumerate(masks):
        mask[5 : 20 + number, 8:40] = True
    pairs, best = [(row, row) for row in range(30)], range(20)

    def failed(other):
        return {measure.name for measure in mask_measures(masks, other, pairs, best) if not measure.passed}

    assert failed(masks) == set()
    for row, name in [(0, "masks of the best detections that differ"), (29, "mask pixels that differ")]:
        other = masks.copy()
        other[row] = False
        assert failed(other) == {"masks that differ", name}
    assert "mask pixels that differ" in failed(np.roll(masks, 1, axis=1))
    assert len(failed(masks[:, :32])) == 1
    edge = masks.copy()
    edge[:, 5, 8:10] = False
    assert failed(edge) == set()
