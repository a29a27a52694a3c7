"""Masks cut to rectangles, and pixels taken from masks, beside drawings of them in NumPy."""

import itertools

import numpy as np
import tensorflow as tf

from tfdet.data.augmentation.clip import clip_edges
from tfdet.data.augmentation.copy_paste import paste
from tfdet.data.augmentation.geometry import has_mask
from tfdet.data.augmentation.spans import edges_of_spans, spans_of_edges, without
from tfdet.structures import Example

HEIGHT, WIDTH = 23, 31


def edges_of(polygons):
    """Edges float32 [E, 4] and owners int32 [E, 2] of the parts of each object; a part is a list of rings."""
    found, owners = [np.zeros([0, 4])], [np.zeros([0, 2])]
    for number, parts in enumerate(polygons):
        for index, rings in enumerate(parts):
            for ring in rings:
                found.append(np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1))
                owners.append(np.tile([number, index], [len(ring), 1]))
    return tf.constant(np.concatenate(found), tf.float32), tf.constant(np.concatenate(owners), tf.int32)


def draw(edges, owners, number, height=HEIGHT, width=WIDTH, fine=1):
    """The mask of an object: even-odd within a part at the centres of `fine` pixels a pixel, union over the parts."""
    x, y = np.meshgrid((np.arange(width * fine) + 0.5) / fine, (np.arange(height * fine) + 0.5) / fine)
    union = np.zeros(x.shape, bool)
    edges, owners = np.asarray(edges, np.float64), np.asarray(owners)
    for part in set(owners[owners[:, 0] == number, 1].tolist()):
        inside = np.zeros(x.shape, bool)
        for x1, y1, x2, y2 in edges[(owners == [number, part]).all(1)]:
            if y1 != y2:
                inside ^= ((y1 <= y) != (y2 <= y)) & (x > x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        union |= inside
    return union


def random_polygons(seed, num_objects=5):
    """Stars and crossed lines over and outside of the image, some in two parts, some with a hole."""
    random = np.random.default_rng(seed)

    def ring(scale=1.0):
        middle, size = random.uniform(0, [WIDTH, HEIGHT]), random.uniform(3, 20) * scale
        return middle + random.uniform(-size, size, (random.integers(3, 9), 2))

    return [[[ring() for _ in range(random.integers(1, 3))] for _ in range(1 + k % 2)] for k in range(num_objects)]


def spans_of(edges, owners):
    return spans_of_edges(edges, owners, HEIGHT, WIDTH)


def redraw(spans):
    return edges_of_spans(spans, HEIGHT, WIDTH)


def cover(spans, other):
    return without(spans, other, HEIGHT, WIDTH)


def test_spans_are_the_pixels_whose_centres_are_inside():
    for seed in range(4):
        edges, owners = edges_of(random_polygons(seed))
        spans = spans_of(edges, owners)
        masks = np.stack([draw(edges, owners, number) for number in range(5)])
        for number, mask in enumerate(masks):
            own = type(spans)(*(tf.boolean_mask(column, spans.objects == number) for column in spans))
            np.testing.assert_array_equal(own.raster(HEIGHT, WIDTH), mask)
        np.testing.assert_array_equal(spans.areas(5), masks.sum((1, 2)))
        rows, columns = np.nonzero(masks[0])
        np.testing.assert_array_equal(spans.boxes(5)[0], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        # Their border, drawn again, is the same; so are the spans of it.
        again = spans_of(*redraw(spans))
        for column, same in zip(spans, again, strict=True):
            np.testing.assert_array_equal(column, same)


def test_without_takes_away_what_is_covered():
    for seed in range(4):
        edges, owners = edges_of(random_polygons(seed))
        over_edges, over_owners = edges_of(random_polygons(seed + 50, 1))
        left = cover(spans_of(edges, owners), spans_of(over_edges, over_owners))
        over = draw(over_edges, over_owners, 0)
        expected = [np.sum(draw(edges, owners, number) & ~over) for number in range(5)]
        np.testing.assert_array_equal(left.areas(5), expected)
        new = redraw(left)
        for number in range(5):
            np.testing.assert_array_equal(draw(*new, number), draw(edges, owners, number) & ~over)
    nothing = spans_of(*edges_of([]))
    assert len(nothing.rows) == len(cover(nothing, nothing).rows) == len(redraw(nothing)[0]) == 0


def test_masks_are_cut_to_a_rectangle():
    """Inside they are the same to a quarter of a pixel, outside there is nothing, the rings are closed."""
    low, high = np.float32([6.0, 3.5]), np.float32([20.25, 15.0])
    x, y = np.meshgrid((np.arange(WIDTH * 4) + 0.5) / 4, (np.arange(HEIGHT * 4) + 0.5) / 4)
    within = (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
    for seed in range(4):
        polygons = random_polygons(seed)
        polygons.append([[np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], float)]])  # all of it
        polygons.append([[np.array([[0, 0], [5, 0], [5, 9]], float)]])  # outside
        polygons.append([[np.array([[4, 5], [9, 5], [9, 8], [4, 8], [4, 14], [30, 14], [0, 16], [0, 5]], float)]])
        edges, owners = edges_of(polygons)
        cut, cut_owners = clip_edges(edges, owners, low, high)
        assert np.all(np.diff(cut_owners[:, 0]) >= 0) and 6 not in cut_owners[:, 0]
        assert np.all(cut.numpy().reshape(-1, 2) >= low) and np.all(cut.numpy().reshape(-1, 2) <= high)
        for number in range(len(polygons)):
            before, after = draw(edges, owners, number, fine=4), draw(cut, cut_owners, number, fine=4)
            assert np.sum(after != (before & within)) <= 1, (seed, number)  # a centre within 1e-3 of an edge
            ends = np.round(cut.numpy()[cut_owners[:, 0] == number].reshape(-1, 2), 2)
            assert np.all(np.unique(ends, axis=0, return_counts=True)[1] % 2 == 0), "every end is another's beginning"


def test_what_lies_along_a_side_is_its_border_alone():
    """A U that leaves the rectangle at the right: its bottom is outside, and no line joins its arms."""
    arms = np.array([[2, 2], [9, 2], [9, 8], [2, 8], [2, 6], [7, 6], [7, 4], [2, 4]], float)
    cut, _ = clip_edges(*edges_of([[[arms]]]), np.float32([0, 0]), np.float32([5, 10]))
    right = sorted(sorted(edge[[1, 3]].tolist()) for edge in cut.numpy() if edge[0] == edge[2] == 5)
    assert right == [[2, 4], [6, 8]]


def hand_made():
    """Objects on an image of zeros: half, wholly, hardly and not covered; one without mask that is wholly covered."""
    boxes = [(2, 2, 12, 12), (14, 4, 18, 8), (2, 14, 30, 22), (25, 1, 30, 5), (14, 4, 17, 7)]
    polygons = [[[square(*box)]] for box in boxes[:4]] + [[]]
    return example_of(boxes, polygons, np.zeros([HEIGHT, WIDTH, 3], np.uint8))


def square(x1, y1, x2, y2):
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float)


def example_of(boxes, polygons, image):
    edges, owners = edges_of(polygons)
    inclusive = tf.constant(boxes, tf.float32) - tf.constant([0.0, 0, 1, 1])
    return Example(tf.constant(image), tf.constant(7, tf.int64), inclusive, tf.range(len(boxes)), edges, owners)


def test_pasted_objects_cover_others():
    own = hand_made()
    image = np.full([HEIGHT, WIDTH, 3], 200, np.uint8)
    # One bar over the first two, with a part that does not touch anything; and a small one on the third.
    pasted = example_of([(7, 0, 20, 13), (4, 15, 6, 17)], [[[square(7, 0, 20, 13)]], [[square(4, 15, 6, 17)]]], image)
    result = paste(own, pasted, 0.1)
    # Half of the first is there; the second and the one without mask are gone; the third has a hole.
    assert result.classes.numpy().tolist() == [0, 2, 3, 0, 1]
    boxes = result.boxes.numpy() + [0, 0, 1, 1]
    np.testing.assert_array_equal(
        boxes, [(2, 2, 7, 12), (2, 14, 30, 22), (25, 1, 30, 5), (7, 0, 20, 13), (4, 15, 6, 17)]
    )
    areas = [draw(result.edges, result.edge_owners, number).sum() for number in range(5)]
    assert areas == [50, 28 * 8 - 4, 20, 13 * 13, 4]
    expected = np.zeros([HEIGHT, WIDTH], np.uint8)
    expected[0:13, 7:20] = expected[15:17, 4:6] = 200
    np.testing.assert_array_equal(result.image, np.repeat(expected[..., None], 3, axis=2))
    assert result.image_id == 7 and has_mask(result).numpy().all()
    # No two masks share a pixel.
    masks = [draw(result.edges, result.edge_owners, number) for number in range(5)]
    assert not any(np.any(one & other) for one, other in itertools.combinations(masks, 2))


def test_an_object_of_which_too_little_is_seen_is_left_out():
    own = hand_made()
    pasted = example_of([(3, 0, 13, 13)], [[[square(3, 0, 13, 13)]]], np.ones([HEIGHT, WIDTH, 3], np.uint8))
    kept = [paste(own, pasted, part).classes.numpy().tolist()[:-1] for part in (0.0, 0.1, 0.11)]
    assert kept == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4]]  # a tenth of the first is seen
