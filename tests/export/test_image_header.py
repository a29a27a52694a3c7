"""Images by their headers, inside a graph: what an exported model refuses before it decodes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.test_image_bombs import png, with_scans
from tfdet.export.image_header import bounded
from tfdet.export.saved_model import decode_image

HEIGHT, WIDTH = 20, 30


@pytest.fixture(scope="module")
def check():
    """`bounded` as a graph has it, with room for 600 pixels."""
    return tf.function(
        lambda encoded: bounded(encoded, HEIGHT * WIDTH), [tf.TensorSpec([], tf.string)], autograph=False
    )


def encode(height, width, kind, **options):
    pixels = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3) % 251
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def animated(frames, height=HEIGHT, width=WIDTH, **options):
    images = [Image.fromarray(np.full((height, width), 40 * number, np.uint8)) for number in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], comment=b"x" * 700, **options)
    return buffer.getvalue()


IMAGES = {
    "JPEG": lambda h, w: encode(h, w, "JPEG"),
    "progressive JPEG": lambda h, w: encode(h, w, "JPEG", progressive=True),
    "PNG": lambda h, w: encode(h, w, "PNG"),
    "BMP": lambda h, w: encode(h, w, "BMP"),
    "GIF": lambda h, w: encode(h, w, "GIF"),
    "animated GIF": lambda h, w: animated(3, h, w),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_at_the_limit_is_what_it_was_and_one_beyond_is_refused(check, kind):
    encoded = IMAGES[kind](HEIGHT, WIDTH)
    decoded = tf.io.decode_image(check(encoded), channels=3, expand_animations=False)
    np.testing.assert_array_equal(decoded, tf.io.decode_image(encoded, channels=3, expand_animations=False))
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    for height, width in ((HEIGHT + 1, WIDTH), (HEIGHT, WIDTH + 1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"an image of {height} x {width} pixels"):
            check(IMAGES[kind](height, width))


def test_only_the_first_frame_of_a_gif_is_decoded(check):
    encoded = animated(3)
    first = check(encoded).numpy()
    assert len(first) < len(encoded) and first[-1:] == b";"
    assert tf.io.decode_gif(encoded).shape[0] == 3 and tf.io.decode_gif(first).shape[0] == 1


def test_a_frame_larger_than_its_gif_is_refused(check):
    encoded = bytearray(encode(HEIGHT, WIDTH, "GIF"))
    frame = encoded.index(b"\x2c\0\0\0\0")
    encoded[frame + 5 : frame + 9] = struct.pack("<2H", 60000, 50000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image of 50000 x 60000 pixels"):
        check(bytes(encoded))


@pytest.mark.parametrize(
    "header",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">2I", 0xFFFFFFFF, 0xFFFFFFFF),  # 2^64 pixels
        b"BM" + bytes(12) + struct.pack("<I2i", 40, 1 << 30, -(1 << 30)),
    ],
    ids=["PNG", "BMP"],
)
def test_sizes_whose_product_overflows_are_refused(check, header):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than the 600 that are taken"):
        check(header + bytes(40))


@pytest.mark.parametrize(
    "content", [b"", b"G", b"GIF", b"GIF89a\x01\0\x01\0\xff", b"\x89PNG", b"BM", b"text", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_an_error_of_the_decoder(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(content))


def test_a_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image of 9500 x 9500 pixels, height and width: more"):
        decode_image(tf.constant(png(9500, 9500)))


def test_a_gif_without_an_end_of_its_blocks_is_given_up(check, monkeypatch):
    monkeypatch.setattr("tfdet.export.image_header._GIF_STEPS", 50)
    encoded = b"GIF89a" + struct.pack("<2H3B", WIDTH, HEIGHT, 0, 0, 0) + b"\x21\xfe" + b"\x01x" * 200 + b"\0\x3b"
    with pytest.raises(tf.errors.InvalidArgumentError, match="a GIF of more blocks than are looked through"):
        bounded(tf.constant(encoded), 600)


def test_webp_is_refused_whose_size_is_not_looked_at(check):
    with pytest.raises(tf.errors.InvalidArgumentError, match="no JPEG, PNG, BMP or GIF"):
        check(encode(HEIGHT, WIDTH, "WEBP", lossless=True))


def test_the_scans_of_a_jpeg_are_counted(check):
    few, many = with_scans(80, HEIGHT, WIDTH), with_scans(110, HEIGHT, WIDTH)
    assert check(few).numpy() == few
    with pytest.raises(tf.errors.InvalidArgumentError, match="20 x 30 pixels.*a JPEG of more than the 100 scans"):
        check(many)
    film = few + np.random.default_rng(0).bytes(20_000_000)  # has the marker 300 times
    assert film.count(b"\xff\xda") > 300 and check(film).numpy() == film


def test_a_sliver_is_refused():
    header = b"BM" + bytes(12) + struct.pack("<I2i", 40, 65_536, 1) + bytes(40)
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 x 65536 pixels.*a side of more than the 65535"):
        bounded(tf.constant(header), 1 << 20)
