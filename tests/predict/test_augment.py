"""Test-time augmentation: what several views find, joined before suppression."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import random_batch, small_detector, small_masks
from tests.evaluate.test_run import PICTURES
from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, PictureInput, picture
from tfdet.data.resize import Resize
from tfdet.detectors import DensePostProcess, PostProcess
from tfdet.errors import UserError
from tfdet.evaluate.run import evaluate
from tfdet.ops.boxes import CONTINUOUS
from tfdet.ops.nms import multiclass_nms
from tfdet.predict.augment import AugmentedDetector, TestTimeAugmentation
from tfdet.predict.predictors import CheckpointPredictor
from tfdet.structures import Candidates

TRUNKS = ("fpn", "retina", "mask")  # the last on C4


class ColorCandidates(ColorDetector):
    """Gives its boxes before suppression."""

    convention = "legacy_plus_one"

    def candidates(self, images, image_info):
        found = self.detect(images, image_info)
        return Candidates(found.boxes[:, :, None], tf.one_hot(found.classes, 3) * found.scores[..., None])

    def suppression_pixels(self, image_info):
        return tf.ones_like(image_info[:, 2:])

    def suppress(self, candidates, image_info):
        return multiclass_nms(candidates.boxes, candidates.scores, 0.05, 0.5, 12)

    def finish(self, found):
        return found


def build(trunk, **postprocess):
    """A detector whose scores are not near 1 all of them: those would be in no order."""
    detector = small_detector("c4" if trunk == "mask" else trunk, masks=small_masks() if trunk == "mask" else None)
    layers = (detector.head.cls, detector.head.box) if trunk == "retina" else (detector.bbox_head.predictor.cls,)
    for layer in layers:
        layer.kernel.assign(layer.kernel / (100.0 if trunk == "retina" else 20.0))
    for name, value in postprocess.items():
        setattr(detector.postprocess, name, value)
    return detector


def views_of(scale=1.0, size=(96, 128), seed=0):
    """Two images, the second with padding on the right and below."""
    batch = random_batch([1, 1], 1, seed=seed, size=size)
    info = np.array([[size[0], size[1], scale], [size[0] - 16, size[1] - 32, scale]], "f")
    images = np.array(batch.images)
    images[1, size[0] - 16 :] = 0
    images[1, :, size[1] - 32 :] = 0
    return tf.constant(images), tf.constant(info)


def mirror(images, image_info):
    images = np.array(images)
    for image, width in zip(images, np.array(image_info)[:, 1].astype(int)):
        image[:, :width] = image[:, :width][:, ::-1].copy()
    return tf.constant(images)


def arrays(found):
    return type(found)(*(None if field is None else np.array(field) for field in found))


def assert_same(a, b, atol=1e-3):
    """The same detections, whatever the order of near-equal scores."""
    for image in range(len(a.num_valid)):
        count = int(a.num_valid[image])
        assert count == int(b.num_valid[image]) and count > 0
        free = list(range(count))
        for row in range(count):
            gaps = [
                np.abs(a.boxes[image, row] - b.boxes[image, other]).max()
                + 100 * abs(a.scores[image, row] - b.scores[image, other])
                + 1e3 * (a.classes[image, row] != b.classes[image, other])
                for other in free
            ]
            best = int(np.argmin(gaps))
            assert gaps[best] < atol, (row, min(gaps))
            if a.masks is not None:
                np.testing.assert_allclose(a.masks[image, row], b.masks[image, free[best]], atol=atol)
            del free[best]


@pytest.mark.parametrize("trunk", TRUNKS)
def test_one_scale_without_flip_is_the_plain_result(trunk):
    detector = build(trunk)
    if trunk == "mask":
        detector.postprocess.in_network_pixels = True
    images, info = views_of(scale=1.7)
    found = arrays(AugmentedDetector(detector, flip=False)([(images, info)]))
    plain = arrays(tf.function(detector.detect, autograph=False)(images, info))
    assert (plain.num_valid > 0).all()
    for a, b in zip(found, plain, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_an_image_and_its_mirror_image_have_mirrored_detections(trunk):
    # With seed 0 boxes without features below the image tie at 1/4, and of ties each view keeps another.
    keras.utils.set_random_seed(1)
    detector = build(trunk, max_detections=200)  # not cut: what comes last may tie
    images, info = views_of(scale=2.0)
    detect = AugmentedDetector(detector, flip=True)
    one, other = arrays(detect([(images, info)])), arrays(detect([(mirror(images, info), info)]))
    origin = ((info[:, 1] - 1.0) / 2.0).numpy()[:, None]
    x1, y1, x2, y2 = np.moveaxis(other.boxes, -1, 0)
    masks = None if other.masks is None else other.masks[..., ::-1]
    assert_same(one, other._replace(boxes=np.stack([origin - x2, y1, origin - x1, y2], axis=-1), masks=masks), 5e-3)
    plain = arrays(detector.detect(images, info))
    assert (one.num_valid > plain.num_valid).any()  # the mirror image adds boxes of its own


def test_where_boxes_are_suppressed_does_not_matter_to_continuous_ones():
    """Two scales whose candidates come in pixels of the network input of each."""
    detector, found = build("fpn"), []
    detector.convention = detector.postprocess.convention = CONTINUOUS
    for in_network_pixels in (True, False):
        detector.postprocess.in_network_pixels = in_network_pixels
        found.append(arrays(AugmentedDetector(detector, flip=True)([views_of(1.0), views_of(2.0, (192, 256), 1)])))
    assert_same(*found)


@pytest.mark.parametrize("trunk", ["fpn", "retina"])
def test_voting_moves_the_boxes_of_two_stages_and_of_dense_detectors(trunk):
    images, info = views_of()
    detector = build(trunk)
    plain = arrays(detector.detect(images, info))
    detector.postprocess.vote_iou_threshold = 0.2
    voted = arrays(detector.detect(images, info))
    np.testing.assert_array_equal(plain.scores, voted.scores)
    assert 0.01 < np.abs(plain.boxes - voted.boxes).max()


@pytest.mark.parametrize("kind", [PostProcess, DensePostProcess])
def test_the_iou_of_voting_is_checked(kind):
    with pytest.raises(
        UserError, match=f"{kind.__name__}.vote_iou_threshold = 1.5: expected a float above 0 and up to 1"
    ):
        kind(vote_iou_threshold=1.5)


@pytest.mark.parametrize("images_per_batch", [1, 3])
def test_evaluation_joins_the_views_in_pixels_of_the_original(images_per_batch):
    """Every view finds the same objects at the same place, so one box of each is left."""
    detector = ColorCandidates()
    source = PictureInput(PICTURES, images_per_batch=images_per_batch)
    augmentation = TestTimeAugmentation((32, 64, 128), flip=True, long_side=256)
    result = evaluate(detector, source, augmentation=augmentation)
    expected = evaluate(detector, source)
    assert len(result.detections) == len(expected.detections) == 4
    for one, other in zip(result.detections, expected.detections, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=2.5)
    assert [len(sample.boxes) for sample in result.samples] == [2, 1, 1, 0]
    some = evaluate(detector, source, augmentation=augmentation, max_images=2)
    assert some.num_images == 2 and some.detections == result.detections[:3]


def test_prediction_resizes_the_image_for_every_scale():
    image = picture(*PICTURES[0])
    arguments = (Resize(64, 128), CLASSES, CATEGORY_IDS)
    plain = CheckpointPredictor(ColorCandidates(), *arguments)(image)
    off = CheckpointPredictor(ColorCandidates(), *arguments, TestTimeAugmentation())(image)
    np.testing.assert_array_equal(plain.boxes, off.boxes)
    one = CheckpointPredictor(ColorCandidates(), *arguments, TestTimeAugmentation((64,)))(image)
    np.testing.assert_allclose(plain.boxes, one.boxes, atol=1e-4)
    several = CheckpointPredictor(ColorCandidates(), *arguments, TestTimeAugmentation((32, 64), flip=True))(image)
    assert several.class_ids.tolist() == plain.class_ids.tolist()
    np.testing.assert_allclose(plain.boxes, several.boxes, atol=2.5)


def test_mistakes_are_named():
    for options in ({"scales": (0,)}, {"scales": (64, 64)}, {"scales": (64,), "long_side": 32}):
        with pytest.raises(UserError, match="TestTimeAugmentation.(scales|long_side)"):
            TestTimeAugmentation(**options)
    with pytest.raises(UserError, match="set TestTimeAugmentation.long_side"):
        TestTimeAugmentation((1000,)).resizes(Resize(800, 900))
    with pytest.raises(UserError, match="a ColorDetector cannot join"):
        AugmentedDetector(ColorDetector(), flip=False)
    assert not TestTimeAugmentation().is_on and TestTimeAugmentation(flip=True).resizes(Resize(8, 9)) == [
        (8, 9, "simpledet")
    ]
