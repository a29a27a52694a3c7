"""The exported model: outputs, sizes, and life without tfdet."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.export.conftest import RESIZE
from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, picture
from tfdet.data.images import decode_image as decode_by_predict
from tfdet.data.schema import decode_rgb
from tfdet.errors import UserError
from tfdet.export.saved_model import DetectionModule, decode_image, export, serving_outputs
from tfdet.predict.exported import load_signatures, read_labels
from tfdet.predict.predictors import SavedModelPredictor
from tfdet.structures import Detections

# (height, width, boxes): enlarged, reduced, and one without anything.
PICTURES = [(32, 48, {2: (4, 6, 27, 29)}), (192, 128, {0: (20, 30, 99, 149), 1: (5, 2, 60, 25)}), (64, 64, {})]


def png(index):
    return tf.io.encode_png(picture(*PICTURES[index])).numpy()


def record(encoded):
    feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="module")
def signatures(exported):
    return load_signatures(exported)


def test_outputs_follow_model_garden(signatures):
    outputs = signatures["image_bytes"](tf.constant([png(1)]))
    assert {name: (value.dtype.name, value.shape.rank) for name, value in outputs.items()} == {
        "detection_boxes": ("float32", 3),
        "detection_classes": ("int32", 2),
        "detection_scores": ("float32", 2),
        "num_detections": ("int32", 1),
        "image_info": ("float32", 3),
        "image_status": ("int32", 1),
    }
    assert outputs["num_detections"].numpy().tolist() == [2]
    # Classes count from 1, padding is 0; boxes are edges [ymin, xmin, ymax, xmax].
    assert outputs["detection_classes"].numpy().tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(
        outputs["detection_boxes"][0], [[30, 20, 150, 100], [2, 5, 26, 61], [0, 0, 0, 0]], atol=2.1
    )
    np.testing.assert_array_equal(outputs["image_info"][0], [[192, 128], [192, 128], [1, 1], [0, 0]])


def test_images_of_different_sizes_in_one_batch_equal_each_alone(signatures):
    together = signatures["image_bytes"](tf.constant([png(index) for index in range(3)]))
    assert together["num_detections"].numpy().tolist() == [1, 2, 0]
    for index in range(3):
        alone = signatures["image_bytes"](tf.constant([png(index)]))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][index], value[0], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", ["image_bytes", "tf_example"])
@pytest.mark.parametrize("damage", [lambda x: x[: len(x) // 2], lambda x: b"", lambda x: b"no image", lambda x: x[1:]])
def test_a_bad_element_is_empty_and_the_others_are_as_without_it(signatures, name, damage):
    """Or the call fails, by option, and names it."""

    def wrapped(encoded):
        return record(encoded) if name == "tf_example" else encoded

    feed = tf.constant([wrapped(png(0)), wrapped(png(1)), wrapped(damage(png(2))), wrapped(damage(png(1)))])
    found, alone = signatures[name](feed), signatures[name](feed[1:2])
    assert found["image_status"].numpy().tolist() == [0, 0, 1, 1]
    assert found["num_detections"].numpy().tolist() == [1, 2, 0, 0]
    for output, value in found.items():
        if output != "image_status":
            assert not value[2:].numpy().any(), output
            np.testing.assert_array_equal(value[1], alone[output][0], err_msg=output)
    if name == "tf_example":
        broken = signatures[name](tf.constant([b"no record", record(png(1))]))
        assert broken["image_status"].numpy().tolist() == [1, 0] and broken["num_detections"][1] == 2


def test_by_option_the_call_fails_with_the_number_of_the_bad_image():
    module = DetectionModule(ColorDetector(), RESIZE, max_pixels=5000, bad_images="all")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[image 1 of the batch cannot be decoded: give .*\]\n"):
        module.image_bytes(tf.constant([png(0), b"no image", png(0)[1:]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image 1 of the batch is an image of 192 x 128 pixels"):
        module.image_bytes(tf.constant([png(0), png(1), png(1)]))
    assert module.image_bytes(tf.constant([png(0)]))["image_status"].numpy().tolist() == [0]


def test_an_image_that_is_too_large_is_not_decoded():
    module = DetectionModule(ColorDetector(), RESIZE, max_pixels=5000)
    found = module.image_bytes(tf.constant([png(1), png(0), b"none"]))
    assert found["image_status"].numpy().tolist() == [2, 0, 1]
    assert found["num_detections"].numpy().tolist() == [0, 1, 0]


def test_photographs_are_turned_upright_and_records_are_not(signatures):
    """A picture that lies on its side in the file, as `tfdet predict` and as training read it."""
    lying = np.rot90(picture(*PICTURES[1]))  # turned by a quarter clockwise it is the picture
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(lying).save(buffer, "PNG", exif=exif)
    upright = signatures["image_bytes"](tf.constant([buffer.getvalue()]))
    expected = signatures["image_tensor"](tf.constant(decode_by_predict(buffer.getvalue())[None]))
    stored = signatures["tf_example"](tf.constant([record(buffer.getvalue())]))
    as_stored = signatures["image_tensor"](tf.constant(lying[None]))
    for name, value in upright.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)
        np.testing.assert_allclose(stored[name], as_stored[name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(upright["detection_boxes"][0, 0], [30, 20, 150, 100], atol=2.1)


def test_an_empty_batch_has_empty_results(signatures):
    one = signatures["image_bytes"](tf.constant([png(1)]))
    nothing = {"image_tensor": tf.zeros([0, 20, 30, 3], tf.uint8)}
    for name in ("image_bytes", "image_tensor", "tf_example"):
        found = signatures[name](nothing.get(name, tf.constant([], tf.string)))
        assert {key: (0, *value.shape[1:]) for key, value in one.items()} == {
            key: tuple(value.shape) for key, value in found.items()
        }


@pytest.mark.parametrize("shape", [[1, 0, 20, 3], [2, 20, 0, 3]])
def test_images_without_a_pixel_are_one_clear_line(signatures, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"images of {shape[1]} x {shape[2]} pixels have nothing"):
        signatures["image_tensor"](tf.zeros(shape, tf.uint8))


def test_signatures_agree(signatures):
    expected = signatures["image_bytes"](tf.constant([png(1)]))
    for name, feed in [
        ("image_tensor", tf.constant(picture(*PICTURES[1])[None])),
        ("tf_example", tf.constant([record(png(1))])),
    ]:
        found = signatures[name](feed)
        for output, value in expected.items():
            np.testing.assert_allclose(found[output], value, atol=1e-4, err_msg=f"{name} {output}")


def test_serving_default_is_image_bytes(exported):
    model = tf.saved_model.load(str(exported))
    assert set(model.signatures) == {"image_bytes", "image_tensor", "tf_example", "serving_default"}
    default = model.signatures["serving_default"](inputs=tf.constant([png(1)]))
    assert default["num_detections"].numpy().tolist() == [2]


def test_gray_and_alpha_images_are_read(signatures):
    gray = tf.io.encode_png(np.full([40, 40, 1], 200, np.uint8)).numpy()
    outputs = signatures["image_bytes"](tf.constant([gray]))
    assert outputs["num_detections"].numpy().tolist() == [3], "gray is red, green and blue"
    alpha = np.concatenate([picture(*PICTURES[1]), np.full([192, 128, 1], 9, np.uint8)], axis=2)
    outputs = signatures["image_bytes"](tf.constant([tf.io.encode_png(alpha).numpy()]))
    assert outputs["num_detections"].numpy().tolist() == [2]


def test_other_formats_are_read(signatures):
    image = picture(*PICTURES[1])
    for kind in ("BMP", "GIF"):
        buffer = io.BytesIO()
        frames = {"save_all": True, "append_images": [Image.fromarray(image[::-1])]} if kind == "GIF" else {}
        Image.fromarray(image).save(buffer, kind, **frames)
        outputs = signatures["image_bytes"](tf.constant([buffer.getvalue()]))
        np.testing.assert_allclose(outputs["detection_boxes"][0, 0], [30, 20, 150, 100], atol=2.1, err_msg=kind)


def test_jpeg_is_decoded_as_in_the_input_pipeline():
    noise = np.random.default_rng(0).integers(0, 256, [64, 64, 3]).astype(np.uint8)
    encoded = tf.io.encode_jpeg(noise, quality=80)
    np.testing.assert_array_equal(decode_image(encoded), decode_rgb(encoded))
    assert np.any(decode_image(encoded) != tf.io.decode_image(encoded)), "the case tells the two apart"


def test_edges_never_pass_the_image():
    detections = Detections(
        tf.constant([[[3.0, 1.0, 9.75, 4.9]]]), tf.constant([[0.5]]), tf.constant([[0]]), tf.constant([1])
    )
    boxes = serving_outputs(detections, tf.constant([[5, 10]]))["detection_boxes"]
    np.testing.assert_array_equal(boxes, [[[1.0, 3.0, 5.0, 10.0]]])


def test_masks_are_an_output_where_the_detector_has_them():
    detections = Detections(
        tf.constant([[[3.0, 1.0, 9.0, 4.0], [0.0, 0.0, 0.0, 0.0]]]),
        tf.constant([[0.5, 0.0]]),
        tf.constant([[0, -1]]),
        tf.constant([1]),
    )
    sizes = tf.constant([[5, 10]])
    assert "detection_masks" not in serving_outputs(detections, sizes)
    masks = serving_outputs(detections._replace(masks=tf.fill([1, 2, 28, 28], 0.5)), sizes)["detection_masks"]
    assert masks.shape == (1, 2, 28, 28) and (masks[0, 0].numpy() == 0.5).all() and not masks[0, 1].numpy().any()


PLAIN = """
import importlib.abc, json, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tfdet", "tf_keras", "official"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
try:
    import tfdet
    raise SystemExit("tfdet can be imported: the test shows nothing")
except ModuleNotFoundError:
    pass
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
with open(sys.argv[2], "rb") as file:
    outputs = model.signatures["serving_default"](inputs=tf.constant([file.read()]))
assert "tfdet" not in sys.modules
print(json.dumps({name: value.numpy().tolist() for name, value in outputs.items()}))
"""


def test_loads_in_plain_tensorflow(exported, signatures, tmp_path):
    image = tmp_path / "image.png"
    image.write_bytes(png(1))
    finished = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, str(exported), str(image)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    outputs = json.loads(finished.stdout.splitlines()[-1])
    for name, value in signatures["image_bytes"](tf.constant([png(1)])).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-4, err_msg=name)


def test_labels_travel_with_the_model(exported, tmp_path):
    assert read_labels(exported) == (CLASSES, CATEGORY_IDS, "simpledet")
    content = json.loads((exported / "assets.extra" / "labels.json").read_text())
    assert content["classes"][0] == {"id": 1, "name": "red", "category_id": 90}
    assert read_labels(tmp_path) is None


def test_target_with_content_is_refused_and_nothing_is_left(detector, tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        export(detector, target, RESIZE, CLASSES, CATEGORY_IDS)
    assert (target / "mine.txt").read_text() == "keep"
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write the export"):
        export(detector, blocked / "model", RESIZE, CLASSES, CATEGORY_IDS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "taken"]


def test_weights_are_those_of_the_detector(tmp_path):
    blind = ColorDetector()
    blind.mix.kernel.assign(np.zeros(blind.mix.kernel.shape))
    (tmp_path / "model").mkdir()  # empty: allowed
    export(blind, tmp_path / "model", RESIZE, CLASSES, CATEGORY_IDS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert len(SavedModelPredictor(tmp_path / "model")(picture(*PICTURES[1])).scores) == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("variables/variables.data-00000-of-00001", lambda data: data[: len(data) // 2]),
        ("variables/variables.data-00000-of-00001", lambda data: bytes([data[0] ^ 1]) + data[1:]),
        ("variables/variables.index", lambda data: data[:20]),
        ("saved_model.pb", lambda data: data[: len(data) // 2]),
        (
            "saved_model.pb",
            lambda data: data.replace(b"strided_slice", b"strided_slicf", 1),
        ),  # a KeyError of its reader
        ("saved_model.pb", lambda data: b""),
    ],
)
def test_a_damaged_model_is_one_line(exported, tmp_path, name, change):
    shutil.copytree(exported, tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match="cannot load the SavedModel .*; copy it again, or export") as caught:
        load_signatures(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_detector_is_refused(tmp_path):
    with pytest.raises(UserError, match="no SavedModel"):
        load_signatures(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match="no signature 'image_bytes'"):
        load_signatures(tmp_path / "other")


def test_a_damaged_fingerprint_is_one_line(tmp_path, caplog):
    module = tf.Module()
    module.double = tf.function(lambda inputs: {"out": inputs * 2}, input_signature=[tf.TensorSpec([], name="inputs")])
    names = ("image_bytes", "image_tensor", "tf_example")
    tf.saved_model.save(module, str(tmp_path), signatures={name: module.double for name in names})
    (tmp_path / "fingerprint.pb").write_bytes(b"damaged")
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert load_signatures(tmp_path)["image_bytes"](tf.constant(2.0))["out"] == 4
    (record,) = caplog.records
    assert record.name == "tfdet" and record.exc_info is None
    assert record.getMessage().startswith(f"{tmp_path}/fingerprint.pb is damaged: nothing needs it")
