"""How photographs are turned in the graph: as PIL turns them, whatever stands in the file."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.images import decode_image
from tfdet.export.orientation import orientation_of, turn_upright

PIXELS = np.random.default_rng(3).integers(0, 256, [5, 7, 3]).astype(np.uint8)


def tables(value, order="<", kind=3, before=0):
    """EXIF data with `before` entries of other tags, then the orientation."""
    entries = [(0x0100 + number, 3, 1, struct.pack(order + "HH", 1, 0)) for number in range(before)]
    entries.append(
        (0x0112, kind, 1, struct.pack(order + ("HH" if kind == 3 else "I"), *([value, 0] if kind == 3 else [value])))
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(order + "H", len(entries)) + body + bytes(4)


def file_of(kind, exif):
    buffer = io.BytesIO()
    options = {} if kind == "PNG" else {"quality": 95, "subsampling": 0}
    exif = b"Exif\0\0" + exif if kind == "JPEG" else exif
    Image.fromarray(PIXELS).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def orientation():
    return tf.function(orientation_of, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_all_eight_ways_are_those_of_pil(orientation, kind):
    for value in range(1, 9):
        encoded = file_of(kind, tables(value, order="<" if value % 2 else ">", before=value))
        assert int(orientation(encoded)) == value
        if kind == "PNG":
            np.testing.assert_array_equal(turn_upright(tf.constant(PIXELS), encoded), decode_image(encoded))


def test_what_says_nothing_readable_is_upright(orientation):
    plain = file_of("JPEG", tables(6))
    at = plain.index(b"Exif\0\0")
    for damaged in (
        file_of("PNG", b""),
        file_of("JPEG", tables(0)),
        file_of("JPEG", tables(9)),
        file_of("JPEG", b"MM\0\x2a\xff\xff\xff\xff"),
        file_of("JPEG", tables(6)[:10]),
        plain[: at + 20],
        plain.replace(b"Exif\0\0", b"Exig\0\0"),
        b"\xff\xd8\xff",
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 40,
    ):
        assert int(orientation(damaged)) == 1, damaged[:40]
    # Other blocks may stand before it, padding between them.
    other = b"\xff\xe0" + struct.pack(">H", 300) + bytes(298)
    assert int(orientation(plain[:2] + other + b"\xff\xff" + plain[2:])) == 6
