"""Which files are taken for images, and what becomes of images of every kind."""

import collections
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.listing import count_endings
from tfdet.errors import UserError
from tfdet.predict.sources import find_images, named_images, read_source


@pytest.fixture
def folder(tmp_path):
    for name in ["b.JPG", "a.png", "notes.txt", "deep/c.webp", "strange.data", "[1].png"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(folder, *inputs):
    return [path.removeprefix(f"{folder}/") for path in find_images([f"{folder}/{entry}" for entry in inputs])]


def test_folders_patterns_and_files(folder):
    assert [name.rsplit("/", 1)[-1] for name in names(folder, "")] == ["[1].png", "a.png", "b.JPG"]
    assert names(folder, "**/*.webp", "a.png") == ["deep/c.webp", "a.png"]
    assert names(folder, "strange.data") == ["strange.data"], "a file that is named is taken whatever its ending"
    assert names(folder, "a.png", "*.png") == ["a.png", "[1].png"], "each once"
    assert names(folder, "[1].png") == ["[1].png"], "a file may look like a pattern"


def test_the_other_files_of_a_folder_are_counted(folder):
    for name in ("c.jfif", "d.avif", "e.MPO", "f.TXT", "LICENSE"):
        (folder / name).write_bytes(b"")
    counts = collections.Counter()
    found = find_images([str(folder)], counts)
    assert [os.path.basename(path) for path in found] == ["[1].png", "a.png", "b.JPG", "c.jfif", "d.avif", "e.MPO"]
    assert count_endings(counts) == "2 .txt, 1 without ending, 1 .data", "the folder in it is none of them"
    many = collections.Counter({f".{number}": 1 for number in range(20)})
    assert count_endings(many).endswith(", 1 .11, 8 of other endings")
    (folder / "other").mkdir()
    (folder / "other/a.heic").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image found in .*other \(1 .heic passed over\)"):
        find_images([str(folder / "other")])


def test_an_absent_file_is_kept_so_that_reading_names_it(folder):
    assert names(folder, "absent.jpg") == ["absent.jpg"]


def test_no_image_at_all_is_an_error(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="no image found in .*empty.*xyz"):
        find_images([str(folder / "empty"), str(folder / "*.xyz")])


def test_why_a_pattern_names_nothing(folder):
    (folder / "imgs [1]").mkdir()
    (folder / "imgs [1]" / "a.PNG").write_bytes(b"")
    for pattern, why in (
        ("imgs [2]/*.png", r"there is no folder .*imgs \[2\] \(in a pattern"),
        ("imgs/*.png", "there is no folder .*imgs$"),
        ("imgs [1]/*.jpg", r"nothing in .*imgs \[1\] matches \*.jpg; it has 1 .png"),
        ("d*/*.jpg", r"nothing in the folders .*d\* matches \*.jpg"),
    ):
        reasons = []
        assert names(folder, "imgs [1]/*.PNG") == ["imgs [1]/a.PNG"]
        find_images([f"{folder}/a.png", f"{folder}/{pattern}"], unmatched=reasons)
        assert re.search(why, reasons[0].partition(": ")[2]), reasons
        with pytest.raises(UserError, match=r"no image found in .*\. Give image files, folders"):
            find_images([f"{folder}/{pattern}"])


def rgb(height=5, width=7):
    return np.random.default_rng(0).integers(0, 256, [height, width, 3]).astype(np.uint8)


def test_named_images_are_listed_in_their_order(folder):
    array, image = rgb(), Image.fromarray(rgb())
    assert named_images(array) == [array] and named_images(image) == [image]
    assert named_images(folder / "a.png") == [str(folder / "a.png")]
    listed = named_images([array, str(folder / "*.png"), image])
    assert listed[0] is array and listed[-1] is image
    assert listed[1:-1] == [str(folder / "[1].png"), str(folder / "a.png")]
    assert named_images(part for part in [array]) == [array]
    tensor = tf.constant(array)
    assert named_images(tensor) == [tensor], "not one image for each row of pixels"
    assert named_images(5) == [5] and named_images(b"bytes") == [b"bytes"], "for reading to refuse"
    with pytest.raises(UserError, match="no image given"):
        named_images([])


def test_arrays_of_all_kinds_become_rgb():
    pixels = rgb()
    np.testing.assert_array_equal(read_source(pixels), pixels)
    alpha = np.concatenate([pixels, np.full([5, 7, 1], 9, np.uint8)], axis=2)
    np.testing.assert_array_equal(read_source(alpha), pixels)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    for array in (pixels[..., 0], pixels[..., :1], pixels[..., 0].astype(np.uint16) * 256 + 255):
        np.testing.assert_array_equal(read_source(array), grey)
    np.testing.assert_array_equal(read_source(tf.constant(pixels)), pixels)
    assert read_source(pixels[:, ::-1]).flags["C_CONTIGUOUS"] and read_source(pixels[..., 0]).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pil_images_of_all_modes_become_rgb(mode):
    source = Image.fromarray(np.full([5, 7], 200 * 256, np.uint16)) if mode == "I;16" else Image.fromarray(rgb())
    image = source if mode == "I;16" else source.convert(mode)
    assert image.mode == mode
    pixels = read_source(image)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (5, 7, 3))
    expected = np.full([5, 7, 3], 200) if mode == "I;16" else np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels, expected)


def test_pil_images_are_turned_upright(folder):
    pixels, exif = rgb(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(folder / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_source(Image.open(folder / "turned.png")), pixels)
    np.testing.assert_array_equal(read_source(folder / "turned.png"), pixels)


def test_pil_images_whose_pixels_cannot_be_had_are_refused(folder):
    Image.fromarray(rgb(64, 64)).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-500])
    with pytest.raises(UserError, match="image 0 cannot be decoded: image file is truncated"):
        read_source(Image.open(folder / "cut.jpg"))
    closed = Image.open(folder / "cut.jpg")
    closed.close()
    with pytest.raises(UserError, match="image 0 cannot be decoded"):
        read_source(closed)
    with pytest.raises(UserError, match="cannot read image .*null byte"):
        read_source("a\0b.jpg")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros([2, 5, 7, 3], np.uint8), r"image 3 is an array of shape \[2, 5, 7, 3\]: .*several images as a list"),
        (np.zeros([5, 7, 2], np.uint8), r"image 3 is an array of shape \[5, 7, 2\]"),
        (np.zeros([0, 7, 3], np.uint8), r"image 3 is an array of shape \[0, 7, 3\], without a pixel"),
        (np.zeros([7, 0], np.uint8), r"image 3 is an array of shape \[7, 0\], without a pixel"),
        (np.zeros([5, 7, 3], np.float32), "image 3 is an array of float32: give uint8"),
        (Image.fromarray(np.zeros([5, 7], np.float32)), "image 3 has floating-point pixels"),
        (Image.new("RGB", (0, 5)), "image 3 has no pixels: it is 0x5"),
        (None, "image 3 is a NoneType: give a file's path, an array or a PIL image"),
        (b"bytes", "image 3 is a bytes"),
    ],
)
def test_what_is_no_image_is_named_by_its_place(source, message):
    with pytest.raises(UserError, match=message) as caught:
        read_source(source, 3)
    assert "\n" not in str(caught.value)
