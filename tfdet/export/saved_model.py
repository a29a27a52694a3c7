"""The exported form of a detector: encoded or decoded images in, Model Garden's detection outputs out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import tensorflow as tf

from tfdet.arguments import MAX_PIXELS
from tfdet.data.resize import Resize, resize_image, view_signature
from tfdet.data.schema import ENCODED, decode_rgb
from tfdet.errors import UserError
from tfdet.export.image_header import bounded, check_sizes, checked, refused, with_size
from tfdet.export.orientation import turn_upright
from tfdet.export.serving_files import write_serving_files
from tfdet.files import check_local, check_no_pattern
from tfdet.interrupts import whole
from tfdet.ops import native
from tfdet.predict.exported import LABELS_FILE, SIGNATURES
from tfdet.structures import Detections

NOT_DECODED = "cannot be decoded: give whole JPEG, PNG, BMP or GIF files"

BadImages = Literal["alone", "all"]
"""What fails where an image of a batch is bad: its own result, which is empty, or the call."""
STATUS = "image_status"
DETECTED, UNDECODABLE, TOO_LARGE = range(3)
"""The values of the output `image_status`."""

_AT_ONCE = 16  # images that are decoded in parallel


class DetectionModule(tf.Module):
    """A detector with decoding and resizing in front, and the outputs of TF Model Garden behind.

    One image of a batch may have another size than the next (`image_bytes`, `tf_example`): each is resized alone, as
    in evaluation, and detected on without padding, so that what is found does not depend on the others. Photographs of
    `image_bytes` are turned upright by their EXIF data, as `tfdet predict` turns them; the images of records are not,
    for training and evaluation read them as they are stored, and a data set's were turned when it was made.

    An image that cannot be decoded, or is too large, has an empty result whose `image_status` says so. By option the
    call fails: an InvalidArgumentError that names the image's place in the batch, from 0.

    Outputs of every signature, B images, which may be none, and D detections each
    (`official/vision/serving/detection.py` names them):
      detection_boxes: float32 [B, D, 4], `[ymin, xmin, ymax, xmax]`, pixels of the original image, edges: the width is
        xmax - xmin. Zeros where padded.
      detection_classes: int32 [B, D], 1..C as in Model Garden, where 0 is the background; 0 where padded.
      detection_scores: float32 [B, D], best first, 0 where padded.
      detection_masks: float32 [B, D, M, M], of a detector with masks alone: probabilities inside each box, to be
        stretched over it; zeros where padded.
      num_detections: int32 [B].
      image_info: float32 [B, 4, 2], Model Garden's rows (original size, size of the frame that the boxes are given in,
        scale of that frame, offset), each (y, x). The frame is the original image: sizes equal, scale 1, offset 0.
        Model Garden gives boxes in the resized image instead, and its clients divide them by row 2: still right here.
        Zeros for an image that was not decoded.
      image_status: int32 [B], 0 where the image was detected on, 1 where it cannot be decoded, 2 where it is beyond the
        limits of `image_header`.

    Args:
      detector: a model with `detect`.
      resize: of the images.
      max_pixels: most pixels of an encoded image, height times width; a larger one is an InvalidArgumentError before
        anything of it is decoded.
      bad_images: whether such an image fails "alone", or "all" of the call with it.
    """

    def __init__(self, detector: Any, resize: Resize, max_pixels: int = MAX_PIXELS, bad_images: BadImages = "alone"):
        super().__init__(name="detection")
        self.detector = detector
        self._max_pixels, self._bad_images = max_pixels, bad_images
        # Not `resize` itself: tf.Module would track the tuple.
        self._resize_image = lambda image: resize_image(image, *resize)
        signature = [*view_signature(resize.rule), tf.TensorSpec([None, 2], tf.int32)]
        # A function of its own: the three signatures share one trace of the detector, and the file one copy.
        self._detect = tf.function(self._detect_resized, input_signature=signature, autograph=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def image_bytes(self, inputs):
        """Detects on encoded images (JPEG, PNG, BMP, the first frame of a GIF), string [B]."""
        return self._detect_encoded(inputs, lambda encoded: encoded, decode_upright)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="inputs")], autograph=False)
    def image_tensor(self, inputs):
        """Detects on decoded RGB images of one size, uint8 [B, H, W, 3]."""
        shape = tf.shape(inputs)
        message = tf.strings.format("images of {} x {} pixels have nothing to detect on", (shape[1], shape[2]))
        inputs = checked(inputs, (shape[0] == 0) | tf.reduce_all(shape[1:3] > 0), message)
        found = self._detect(*whole_batch(self._prepare(inputs, lambda image: image), shape[0]))
        return {**found, STATUS: tf.zeros([shape[0]], tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def tf_example(self, inputs):
        """Detects on serialised `tf.train.Example` records with the feature `image/encoded`, string [B]."""
        feature = {ENCODED: tf.io.FixedLenFeature([], tf.string)}
        return self._detect_encoded(
            inputs, lambda record: tf.io.parse_single_example(record, feature)[ENCODED], decode_bounded
        )

    def _detect_resized(self, images, image_info, sizes):
        return serving_outputs(self.detector.detect(images, image_info), sizes)

    def _detect_encoded(self, inputs, encoded_of, decode):
        """What is found on a batch of encoded images, string [B], of no more pixels than allowed by their headers."""
        with tf.device("cpu:0"):
            count = tf.shape(inputs)[0]
            places, (encoded, sizes) = _of_each(inputs, lambda element: with_size(encoded_of(element)))
            if self._bad_images == "all":
                encoded, sizes = whole_batch((places, (encoded, sizes)), count)
                encoded = check_sizes(encoded, sizes, self._max_pixels)
                found = self._detect(*whole_batch(self._prepare(encoded, decode), count))
                return {**found, STATUS: tf.zeros([count], tf.int32)}
            places, large = tf.cast(places, tf.int32), refused(sizes, self._max_pixels)
            known, kept = tf.gather(places, tf.where(large)[:, 0]), tf.where(~large)[:, 0]
            decoded, prepared = self._prepare(tf.gather(encoded, kept), decode)
            places = tf.gather(tf.gather(places, kept), decoded)[:, None]
            status = tf.fill([count], UNDECODABLE)
            status = tf.tensor_scatter_nd_update(status, known[:, None], tf.fill(tf.shape(known), TOO_LARGE))
            status = tf.tensor_scatter_nd_update(status, places, tf.fill(tf.shape(places)[:1], DETECTED))
        found = self._detect(*prepared)
        rows = {  # of bad images there is nothing but zeros
            name: tf.ensure_shape(
                tf.scatter_nd(places, value, tf.concat([count[None], tf.shape(value)[1:]], axis=0)), value.shape
            )
            for name, value in found.items()
        }
        return {**rows, STATUS: status}

    def _prepare(self, inputs, decode):
        """Resizes each image and pads them to one canvas: what `_of_each` gives of the arguments of `_detect`."""

        def prepare(element):
            image = decode(element)
            return (*self._resize_image(image), tf.shape(image)[:2])

        with tf.device("cpu:0"):  # image decoding has no other kernel
            return _of_each(inputs, prepare)


def whole_batch(results: tuple[tf.Tensor, tuple[tf.Tensor, ...]], count: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """What `_of_each` gives of a batch of `count`, int32 [], all of it; the error names the first that failed."""
    places, values = results
    found = tf.size(places, tf.int64)
    first_bad = tf.math.count_nonzero(places == tf.range(found))  # up to there each is in its place
    message = tf.strings.format("image {} of the batch " + NOT_DECODED, first_bad)
    return checked(values, found == tf.cast(count, tf.int64), message)


def _of_each(inputs: tf.Tensor, function: Callable[[tf.Tensor], Any]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """What a function gives for the elements of a batch that it does not fail on, padded to one shape.

    The error of an operator that decodes does not say of which image it is. A pipeline can go on without it, and what
    is missing at its end is known.

    Returns:
      The places int64 [K] of those elements in the batch, and the function's results [K, ...].
    """

    @tf.autograph.experimental.do_not_convert
    def of_one(place: tf.Tensor, element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (place, *function(element))

    options = tf.data.Options()  # what it would look for to speed a pipeline up takes longer than one of one batch
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    count = tf.shape(inputs, tf.int64)[0]
    items = tf.data.Dataset.from_tensor_slices(inputs).enumerate()
    items = items.map(of_one, num_parallel_calls=_AT_ONCE)
    batches = items.ignore_errors().padded_batch(tf.maximum(count, 1)).with_options(options)
    none = [tf.zeros([side or 0 for side in spec.shape], spec.dtype) for spec in batches.element_spec]
    places, *results = batches.reduce(tuple(none), lambda _, batch: batch)
    return places, tuple(results)


def decode_image(encoded: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Decodes one image as the input pipeline does; an orientation noted in its EXIF data is not applied.

    Args:
      encoded: string [], JPEG, PNG, BMP or GIF (its first frame).
      max_pixels: most pixels, height times width.

    Returns:
      uint8 [H, W, 3], RGB.

    Raises:
      tf.errors.InvalidArgumentError: no image, or a larger one, when the op runs.
    """
    return decode_bounded(bounded(encoded, max_pixels))


def decode_upright(encoded: tf.Tensor) -> tf.Tensor:
    """As `decode_bounded`, turned upright by the image's EXIF data."""
    return turn_upright(decode_bounded(encoded), encoded)


def decode_bounded(encoded: tf.Tensor) -> tf.Tensor:
    """As `decode_image`, of an image whose size was checked."""
    # decode_image has no choice of DCT, and its fast one is not that of the input pipeline.
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: decode_rgb(encoded),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, 3])


def serving_outputs(detections: Detections, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Detections as the exported model gives them: the one place where they cross to Model Garden's conventions.

    Args:
      detections: boxes in inclusive corners `[x1, y1, x2, y2]`, pixels of the original image; classes 0..C-1.
      sizes: int32 [B, 2], height and width of the original images.

    Returns:
      The dict that `DetectionModule` describes.
    """
    x1, y1, x2, y2 = tf.unstack(tf.cast(detections.boxes, tf.float32), axis=-1)
    height, width = (tf.cast(sizes[:, axis, None], tf.float32) for axis in (0, 1))
    # Inclusive corners name the last pixel: its far edge is one further. An enlarged image's last pixel is a fraction
    # of an original one, so that edge can pass the border by less than a pixel.
    boxes = tf.stack([y1, x1, tf.minimum(y2 + 1.0, height), tf.minimum(x2 + 1.0, width)], axis=-1)
    classes = tf.cast(detections.classes, tf.int32)
    real = tf.range(tf.shape(classes)[1])[None] < detections.num_valid[:, None]
    frame = tf.cast(sizes, tf.float32)
    masks = {}
    if detections.masks is not None:
        masks["detection_masks"] = tf.where(real[..., None, None], tf.cast(detections.masks, tf.float32), 0.0)
    return {
        "detection_boxes": tf.where(real[..., None], boxes, 0.0),
        "detection_classes": tf.where(real, classes + 1, 0),
        "detection_scores": tf.where(real, tf.cast(detections.scores, tf.float32), 0.0),
        "num_detections": tf.cast(detections.num_valid, tf.int32),
        "image_info": tf.stack([frame, frame, tf.ones_like(frame), tf.zeros_like(frame)], axis=1),
        **masks,
    }


def check_target(output: str | os.PathLike) -> None:
    """Makes sure that a SavedModel can be written to a folder: absent, or empty.

    Raises:
      UserError: something is there.
    """
    check_local(output, "--output")
    check_no_pattern(output)  # tfdet finds it all the same, but TF Serving and whoever else loads it does not
    output = os.fspath(output)
    if os.path.isdir(output) and not os.listdir(output):
        return
    if os.path.lexists(output):
        what = "not empty" if os.path.isdir(output) else "a file"
        raise UserError(f"the export folder {output} is {what}: give another --output, or remove it first")


def export(
    detector: Any,
    output: str | os.PathLike,
    resize: Resize,
    classes: Sequence[str],
    category_ids: Sequence[int],
    implementation: str = "python",
    max_pixels: int = MAX_PIXELS,
    bad_images: BadImages = "alone",
) -> None:
    """Writes the detector as a SavedModel; class names and what TF Serving reads are in its `assets.extra`.

    Everything is written to a temporary folder beside `output`, which is renamed at the end.

    Args:
      detector: a model with `detect`, weights restored.
      output: the folder to write, absent or empty.
      resize: of the images.
      classes: class names by class.
      category_ids: original category ids by class.
      implementation: of the ops that are traced: `"python"`, which any TensorFlow loads, or `"native"`, tfdet's custom
        ops, for programs that load their library first.
      max_pixels: most pixels of an image that the export takes encoded, height times width.
      bad_images: what fails where one of a batch cannot be read, see `DetectionModule`.

    Raises:
      UserError: the folder is not empty or cannot be written, or there are no custom ops.
    """
    module = DetectionModule(detector, resize, max_pixels, bad_images)
    signatures = {name: getattr(module, name) for name in SIGNATURES}
    signatures["serving_default"] = module.image_bytes
    with new_folder(output) as temporary:
        with native.implementation(implementation):
            tf.saved_model.save(module, temporary, signatures=signatures)
        write_serving_files(temporary, resize)
        write_labels(os.path.join(temporary, LABELS_FILE), classes, category_ids, resize, detector)


@contextlib.contextmanager
def new_folder(output: str | os.PathLike) -> Iterator[str]:
    """A temporary folder beside `output`, absent or empty, that takes its place when the block ends without an error.

    Raises:
      UserError: the folder is not empty or cannot be written.
    """
    output = os.path.abspath(os.fspath(output))
    check_target(output)
    temporary = f"{output}.tmp{os.getpid()}"
    try:
        os.makedirs(temporary)
        yield temporary
        with whole():
            if os.path.isdir(output):
                os.rmdir(output)  # empty: see check_target
            os.rename(temporary, output)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot write the export to {output}: {error}".splitlines()[0]) from error
    finally:
        with whole():
            shutil.rmtree(temporary, ignore_errors=True)


def write_labels(
    path: str | os.PathLike,
    classes: Sequence[str],
    category_ids: Sequence[int],
    resize: Resize,
    detector: Any,
    **more: Any,
) -> None:
    """Writes what the classes of an export are and how its images are resized, as json; `more` fields come last."""
    masks = {} if getattr(detector, "masks", None) is None else {"mask_paste": detector.mask_paste}
    content = {
        "classes": [
            {"id": number, "name": name, "category_id": int(category)}
            for number, (name, category) in enumerate(zip(classes, category_ids), 1)
        ],
        "short_side": resize.short_side,
        "long_side": resize.long_side,
        "resize": resize.rule,
        **masks,
        **more,
    }
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
