"""Masks from the annotation file to the edges of a batch and to the ground truth of evaluation."""

import argparse
import dataclasses
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from tests.ops.test_mask_targets import cocoapi_exactly, shares
from tfdet.commands import convert_data
from tfdet.data.convert import StrictError, convert
from tfdet.data.doctor import diagnose
from tfdet.data.formats.coco import read_coco
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.manifest import Manifest
from tfdet.data.mask_schema import RING_OBJECT, Rings, mask_damage, ring_edges
from tfdet.data.problems import ProblemReport
from tfdet.data.rle import counts_from_mask, counts_to_string
from tfdet.data.scan import manifest_from_records
from tfdet.detectors.masks import target_rule
from tfdet.errors import UserError

HEIGHT, WIDTH = 40, 60
TWO_PARTS = [[10.1, 5.7, 30.3, 6, 20, 25.25], [40, 5, 50.5, 5, 50.5, 30, 40, 30]]
SIDES = {"short_side": 20, "long_side": 30}


def disc_with_hole():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = (x - 30) ** 2 + (y - 20) ** 2
    return (radius < 225) & (radius > 40)


def rle(mask, compressed=True):
    counts = counts_from_mask(mask)
    return {"size": list(mask.shape), "counts": counts_to_string(counts) if compressed else counts}


def draw(edges, parts, height, width):
    """The mask of one object: even-odd within a part at the pixel centres, union over the parts."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    union = np.zeros((height, width), bool)
    for part in set(parts[parts >= 0].tolist()):
        inside = np.zeros((height, width), bool)
        for x1, y1, x2, y2 in edges[parts == part]:
            if y1 != y2:
                crossed = ((y1 <= y) != (y2 <= y)) & (x > x1 + (y - y1) * (x2 - x1) / (y2 - y1))
                inside ^= crossed
        union |= inside
    return union


@pytest.fixture
def coco_set(coco, tmp_path):
    """Converts the images of a `CocoBuilder`: coco_set(strict, name) -> (data set folder, report)."""

    def make(strict=False, name="set"):
        report = ProblemReport()
        convert(read_coco([coco.write()], report), tmp_path / name, name, "test", report, num_workers=0, strict=strict)
        return tmp_path / name, report

    return make


@pytest.fixture
def masked(coco, coco_set):
    """One image: a crowd, two parts, a box dropped by the box rule, an RLE with a hole, an object without mask."""
    coco.image(1)
    coco.box(1, (0, 0, 60, 40), 7, iscrowd=1, segmentation=rle(np.ones((HEIGHT, WIDTH), bool), compressed=False))
    coco.box(1, (10, 5, 41, 25), segmentation=TWO_PARTS)
    coco.box(1, (59.5, 1, 0.5, 5), segmentation=[[59, 1, 60, 1, 60, 6, 59, 6, 58, 3]])
    coco.box(1, (15, 5, 31, 31), 7, segmentation=rle(disc_with_hole()))
    coco.box(1, (2, 2, 9, 9), segmentation=[])
    folder, report = coco_set()
    assert report.counts() == {"box without a whole pixel": 1}
    return folder


def batches(folder, count=1, **arguments):
    train = TrainInput(folder, **SIDES | {"images_per_replica": 1, "masks": True} | arguments)
    return list(itertools.islice(train.dataset(1).as_numpy_iterator(), count))


def test_manifest_counts_masks(masked, capsys):
    manifest = Manifest.load(masked)
    assert manifest.has_masks
    assert (manifest.num_boxes, manifest.num_masks, manifest.num_crowd, manifest.num_crowd_masks) == (3, 2, 1, 1)
    parser = argparse.ArgumentParser()
    convert_data.add_arguments(parser)
    assert convert_data.run(parser.parse_args(["--check", str(masked)])) == 0
    assert "2 of 3 objects have a mask" in capsys.readouterr().out.replace("\n", " ")


def test_edges_of_a_batch(masked):
    (batch,) = batches(masked, flip=False)
    assert batch.classes.tolist() == [[0, 1, 0]]
    assert batch.edges.dtype == np.float32 and batch.edge_owners.dtype == np.int32
    edges, (objects, parts) = batch.edges[0], batch.edge_owners[0].T
    assert objects[:8].tolist() == [0] * 7 + [1] and set(objects) == {0, 1}
    assert parts[:8].tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    first, second = (np.array(polygon).reshape(-1, 2) / 2 for polygon in TWO_PARTS)
    for polygon, own in ((first, edges[:3]), (second, edges[3:7])):
        np.testing.assert_allclose(own, np.concatenate([polygon, np.roll(polygon, -1, axis=0)], axis=1), atol=1e-5)
    np.testing.assert_array_equal(draw(edges[7:] * 2, parts[7:], HEIGHT, WIDTH), disc_with_hole())


def test_the_mirrored_copy(masked):
    (plain,) = batches(masked, flip=False)
    copies = batches(masked, 2)
    (mirrored,) = (batch for batch in copies if not np.array_equal(batch.images, plain.images))
    assert len(plain.edges[0]) > 20
    width = plain.image_info[0, 1]
    expected = plain.edges * [-1, 1, -1, 1] + np.array([1, 0, 1, 0]) * (width - 1)
    np.testing.assert_allclose(mirrored.edges, expected, atol=1e-5)
    np.testing.assert_array_equal(mirrored.edge_owners, plain.edge_owners)


@pytest.mark.parametrize("rule", ["detectron2", "torchvision"])
def test_targets_of_a_batch_by_the_other_programs_rules(masked, rule):
    """Two parts, run lengths with a hole, no mask; a crowd is no object. The mirrored copy has mirrored targets."""
    plain = batches(masked, flip=False, profile="continuous")[0]
    copies = batches(masked, 2, profile="continuous")
    (mirrored,) = (batch for batch in copies if not np.array_equal(batch.images, plain.images))
    targets = []
    for batch, turn in ((plain, 1), (mirrored, -1)):
        matched = np.array([[0, 1, 2, -1]], np.int32)
        boxes = np.pad(batch.boxes, [(0, 0), (0, 1), (0, 0)])
        drawn = target_rule(rule)(boxes, matched, batch.edges, batch.edge_owners, batch.image_info, size=28)
        targets.append(drawn[0, :, :, ::turn].numpy())
    (two_parts, disc, nothing, no_roi), reflected = targets
    polygons = [np.array(polygon).reshape(-1, 2) / 2 for polygon in TWO_PARTS]
    if rule == "detectron2":
        expected, apart = cocoapi_exactly(plain.boxes[0, 0], polygons), 0.03
    else:  # RoIAlign's grid lies half a pixel beside that of the bitmap, on either side
        runs = coco_mask.frPyObjects([polygon.reshape(-1).tolist() for polygon in polygons], 20, 30)
        expected = shares(coco_mask.decode(coco_mask.merge(runs)).astype(float), plain.boxes[0, 0], 28)
        apart = 0.15
    np.testing.assert_allclose(two_parts, expected, atol=1e-4)
    box = np.s_[5:36, 15:46]  # 31 x 31 pixels, of which the disc's hole is in the middle
    assert disc.mean() == pytest.approx(disc_with_hole()[box].mean(), abs=0.05) and disc[13:15, 13:15].max() < 0.2
    assert not nothing.any() and not no_roi.any()
    assert np.abs(reflected[:2] - targets[0][:2]).mean() < apart


def test_without_masks_there_is_no_edge(masked):
    for dataset in (TrainInput(masked, images_per_replica=1, **SIDES).dataset(1), EvalInput(masked, **SIDES).dataset()):
        assert dataset.element_spec.edges.shape[1:] == (0, 4)
        assert dataset.element_spec.edge_owners.shape[1:] == (0, 2)
        batch = next(dataset.as_numpy_iterator())
        assert batch.edges.shape == (1, 0, 4) and batch.edge_owners.shape == (1, 0, 2)


def test_images_of_a_batch_are_padded_together(coco, coco_set):
    coco.image(1).box(1, (10, 5, 41, 25), segmentation=TWO_PARTS).box(1, (5, 5, 9, 9))
    coco.image(2).box(2, (15, 5, 31, 31), segmentation=rle(disc_with_hole()))
    coco.image(3).box(3, (5, 5, 9, 9))
    folder, _ = coco_set()
    (batch,) = batches(folder, flip=False, images_per_replica=3)
    by_image = dict(zip(batch.image_ids.tolist(), zip(batch.edges, batch.edge_owners)))
    length = batch.edges.shape[1]
    assert batch.edges.shape == (3, length, 4) and batch.edge_owners.shape == (3, length, 2)
    for number, count in ((1, 7), (2, length), (3, 0)):
        edges, owners = by_image[number]
        assert (owners[:count, 0] == 0).all() and (owners[count:] == -1).all() and not edges[count:].any()


def test_an_object_of_many_edges_makes_no_other_one_longer(coco, coco_set):
    """A comb beside nine boxes; padded to it, the batch would hold ten times its edges."""
    comb = np.zeros((HEIGHT, WIDTH), bool)
    comb[1::2, ::2] = True
    coco.image(1).box(1, (0, 0, 60, 40), segmentation=rle(comb))
    for x in range(9):
        coco.box(1, (x, 5, 9, 9), segmentation=[[x, 5, x + 9, 5, x + 9, 14, x, 14]])
    folder, _ = coco_set()
    (batch,) = batches(folder, flip=False)
    of_the_comb = 4 * comb.sum()
    assert of_the_comb > 2000 and batch.edges.shape == (1, of_the_comb + 9 * 4, 4)


def test_ground_truth_is_what_was_annotated(masked):
    truth = EvalInput(masked).ground_truth()["annotations"]
    crowd, two_parts, _, disc, bare = truth
    assert two_parts["segmentation"] == TWO_PARTS and "segmentation" not in bare
    np.testing.assert_array_equal(coco_mask.decode(disc["segmentation"]), disc_with_hole())
    assert coco_mask.decode(crowd["segmentation"]).all() and crowd["iscrowd"]


def test_bad_masks_are_named_and_lose_no_box(coco, coco_set):
    coco.image(1)
    for segmentation in (
        [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4]], [[1, 2, 3, 4, float("nan"), 6]], "1 2 3",
        {"size": [WIDTH, HEIGHT], "counts": [0, 2400]}, {"size": [HEIGHT, WIDTH], "counts": [0, 2399]},
    ):  # fmt: skip
        coco.box(1, (5, 5, 20, 20), segmentation=segmentation)
    coco.box(1, (10, 5, 41, 25), segmentation=TWO_PARTS)
    folder, report = coco_set()
    assert report.counts() == {
        "mask polygon with an odd number of coordinates": 1, "mask polygon of fewer than 3 points": 1,
        "mask polygon not finite": 1, "unreadable mask": 1, "mask RLE of another size than the image": 1,
        "mask RLE does not fill the image": 1,
    }  # fmt: skip
    for number, problem in enumerate(report.problems, start=1):
        assert f"annotation {number}:" in problem.reason and problem.file.endswith("0001.jpg") and problem.image_id == 1
    manifest = Manifest.load(folder)
    assert (manifest.num_boxes, manifest.num_masks) == (7, 1)
    with pytest.raises(StrictError):
        coco_set(strict=True, name="strict")
    assert not (folder.parent / "strict").exists()


def test_masks_of_rotated_images(coco, coco_set, make_jpeg):
    """The annotation gives the upright size, 60x40; the file holds 40x60 and says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = make_jpeg(WIDTH, HEIGHT, exif=exif)
    coco.image(1, encoded=encoded).box(1, (15, 5, 31, 31), segmentation=rle(disc_with_hole()))
    coco.image(2, encoded=encoded).box(2, (15, 5, 31, 31), segmentation=rle(disc_with_hole().T))
    # the size as stored: neither picture, box nor mask is turned
    coco.image(3, WIDTH, HEIGHT, encoded=encoded).box(3, (5, 15, 31, 31), segmentation=rle(disc_with_hole().T))
    folder, report = coco_set()
    assert report.counts() == {"mask RLE of another size than the image": 1}
    first, second, third = EvalInput(folder).ground_truth()["annotations"]
    np.testing.assert_array_equal(coco_mask.decode(first["segmentation"]), disc_with_hole())
    np.testing.assert_array_equal(coco_mask.decode(third["segmentation"]), disc_with_hole().T)
    assert "segmentation" not in second
    by_image = {int(batch.image_ids[0]): batch for batch in batches(folder, 3, flip=False)}
    for number, mask in ((1, disc_with_hole()), (3, disc_with_hole().T)):
        batch = by_image[number]
        drawn = draw(batch.edges[0] / batch.image_info[0, 2], batch.edge_owners[0, :, 1], *mask.shape)
        np.testing.assert_array_equal(drawn, mask)


def test_sets_without_masks(mixed_set, tmp_path):
    """Also such a manifest as was written before there were masks."""
    path = mixed_set / "manifest.json"
    content = json.loads(path.read_text())
    assert content.pop("num_masks") == content.pop("num_crowd_masks") == 0
    assert content.pop("digest") and content.pop("index_sha256")
    path.write_text(json.dumps(content))
    assert not Manifest.load(mixed_set).has_masks
    with pytest.raises(UserError, match="TrainInput.masks is True, but .* has no masks: convert it anew"):
        TrainInput(mixed_set, masks=True)
    assert batches(mixed_set, masks=False)[0].edges.shape == (1, 0, 4)
    assert not any("segmentation" in a for a in EvalInput(mixed_set).ground_truth()["annotations"])
    (record,) = tf.data.TFRecordDataset(Manifest.load(mixed_set).shard_paths()[0]).take(1)
    assert not any("polygon" in key or "segmentation" in key for key in features(record))


def features(record):
    return tf.train.Example.FromString(record.numpy()).features.feature


def rewrite(folder, change):
    """Changes the only record of a data set, in a file of its own."""
    (record,) = tf.data.TFRecordDataset(Manifest.load(folder).shard_paths()[0])
    example = tf.train.Example.FromString(record.numpy())
    change(example.features.feature)
    path = folder.parent / "changed.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    return path


def test_scanning_counts_masks_and_finds_damaged_ones(masked, tmp_path):
    def scan(path, name):
        report = ProblemReport()
        return manifest_from_records(str(path), tmp_path / name, name, report), report

    manifest, report = scan(rewrite(masked, lambda feature: None), "same")
    assert (manifest.num_masks, manifest.num_crowd_masks) == (2, 1) and "damaged masks" not in report.counts()
    assert not diagnose(tmp_path / "same")

    def damage(feature):
        feature[RING_OBJECT].int64_list.value[0] = 99

    manifest, report = scan(rewrite(masked, damage), "damaged")
    assert manifest.num_masks == 0 and report.counts()["damaged masks"] == 1
    (problem,) = diagnose(tmp_path / "damaged")
    assert problem.kind == "damaged masks" and problem.image_id == 1


def test_damaged_masks_end_training_with_the_name_of_the_image(masked):
    """The records say what they hold; a set whose records were exchanged is found when they are read."""
    path = rewrite(masked, lambda feature: feature[RING_OBJECT].int64_list.value.__setitem__(0, 99))
    manifest = manifest_from_records(str(path), masked.parent / "bad", "bad", ProblemReport())
    dataclasses.replace(manifest, num_masks=2).write()
    train = TrainInput(manifest.folder, masks=True, images_per_replica=1, **SIDES)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(train.dataset(1)))
    assert "damaged masks" in str(train.explain(caught.value)) and "image id 1" in str(train.explain(caught.value))


def test_edges_of_kept_objects():
    rings = Rings(
        tf.constant([[0, 0], [1, 0], [0, 1], [5, 5], [6, 5], [6, 6], [5, 6], [9, 9], [8, 9], [8, 8]], tf.float32),
        tf.constant([3, 4, 3], tf.int64), tf.constant([0, 2, 2], tf.int64), tf.constant([0, 0, 1], tf.int64),
    )  # fmt: skip
    edges, owners = ring_edges(rings, tf.constant([False, True, True]))
    assert owners.numpy().tolist() == [[1, 0]] * 4 + [[1, 1]] * 3
    assert edges.numpy()[3].tolist() == [5, 6, 5, 5] and edges.numpy()[6].tolist() == [8, 8, 9, 9]
    for keep in ([True, False, False], [False] * 3):
        edges, owners = ring_edges(rings, tf.constant(keep))
        assert edges.shape == (3 * sum(keep), 4) and owners.numpy().tolist() == [[0, 0]] * 3 * sum(keep)


def test_damage_is_described():
    def rings(vertices=4, lengths=(4,), objects=(0,), parts=(0,)):
        return Rings(np.zeros((vertices, 2)), np.array(lengths), np.array(objects), np.array(parts))

    assert mask_damage(np.array([b"[]", b""], object), rings(), 2) is None
    assert mask_damage(np.array([], object), rings(0, (), (), ()), 2) is None
    for texts, own, message in (
        ([b"[]"], rings(), "1 segmentations for 2"),
        ([b"[", b""], rings(), "not json"),
        ([b"3", b""], rings(), "is none"),
        ([], rings(vertices=3), "do not fit together"),
        ([], rings(parts=()), "do not fit together"),
        ([], rings(objects=(2,)), "do not belong"),
        ([], rings(8, (4, 4), (1, 0), (0, 0)), "do not belong"),
        ([], rings(parts=(-1,)), "negative part"),
    ):
        assert message in mask_damage(np.array(texts, object), own, 2)
