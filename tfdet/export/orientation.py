"""How a photograph is to be turned, by its EXIF data, in graph ops: cameras store pixels as the sensor lies."""

from __future__ import annotations

import tensorflow as tf

_TAG = 0x0112
_BLOCKS = 1000  # of a file that are passed in search of the EXIF data
_ENTRIES = 512  # of its first table that are looked at
_UPRIGHT = 1
_PNG = (0x89, 0x50, 0x4E, 0x47)
_EXIF = (0x45, 0x78, 0x69, 0x66, 0, 0)  # "Exif" and two zeros, at the beginning of a JPEG's block
_EXIF_CHUNK = (0x65, 0x58, 0x49, 0x66)  # "eXIf", the name of a PNG's chunk


def turn_upright(image: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """A decoded image uint8 [H, W, 3] turned by the EXIF data of its file, string []: [W, H, 3] by a quarter."""
    turned = orientation_of(encoded)

    def among(*values: int) -> tf.Tensor:
        return tf.reduce_any(turned == tf.constant(values, turned.dtype))

    # The eight ways, as PIL's ImageOps.exif_transpose: from 5 on rows and columns change places first.
    image = tf.cond(turned >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(among(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
    image = tf.cond(among(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.ensure_shape(image, [None, None, 3])


def orientation_of(encoded: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG or PNG, string [] -> int32 [], 1..8; 1 where it says none, or nothing readable.

    Source: CIPA DC-008 (EXIF 2.32), 4.6; ITU-T T.81, B.1; PNG specification, 11.3 eXIf.
    """
    content = tf.io.decode_raw(encoded, tf.uint8)
    length = tf.size(content)
    is_png = tf.reduce_all(_bytes(content, tf.constant(0), 4) == _PNG)
    place = tf.cond(is_png, lambda: _in_png(content, length), lambda: _in_jpeg(content, length))
    return tf.cond(place > 0, lambda: _in_tables(content, place, length), lambda: tf.constant(_UPRIGHT))


def _bytes(content: tf.Tensor, place: tf.Tensor, count: int) -> tf.Tensor:
    """int32 [..., count] from places int32 [...]; zeros beyond the end."""
    places = place[..., None] + tf.range(count)
    inside = (places >= 0) & (places < tf.size(content))
    padded = tf.concat([content, tf.zeros([1], tf.uint8)], axis=0)
    return tf.cast(tf.gather(padded, tf.where(inside, places, tf.size(content))), tf.int32)


def _number(content: tf.Tensor, place: tf.Tensor, count: int, big: tf.Tensor) -> tf.Tensor:
    """Whole numbers of 2 or 4 bytes, int32; one of 2^31 or more is negative."""
    values = _bytes(content, place, count)
    values = tf.where(big, tf.reverse(values, [-1]), values)
    return tf.reduce_sum(tf.bitwise.left_shift(values, 8 * tf.range(count)), axis=-1)


def _in_jpeg(content: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Where the EXIF tables begin, int32 []; 0 for nowhere. Blocks are 0xFF, a kind, and their length with itself."""

    def step(place, found):
        marker, kind = tf.unstack(_bytes(content, place, 2))
        size = _number(content, place + 2, 2, tf.constant(True))
        is_exif = (kind == 0xE1) & tf.reduce_all(_bytes(content, place + 4, 6) == _EXIF)
        plain = ((kind >= 0xD0) & (kind <= 0xD8)) | (kind == 0x01)  # without a length
        ended = (marker != 0xFF) | (kind == 0xD9) | (kind == 0xDA) | is_exif
        ahead = tf.where(kind == 0xFF, 1, tf.where(plain, 2, 2 + tf.maximum(size, 2)))
        return tf.where(ended, length, place + ahead), tf.where(is_exif & (marker == 0xFF), place + 10, found)

    return _walk(step, 0, length)


def _in_png(content: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """As `_in_jpeg`. Chunks are a length, a name, so many bytes and a checksum."""

    def step(place, found):
        size = _number(content, place, 4, tf.constant(True))
        is_exif = tf.reduce_all(_bytes(content, place + 4, 4) == _EXIF_CHUNK)
        ended = is_exif | (size < 0) | (size > length)
        return tf.where(ended, length, place + 12 + size), tf.where(is_exif, place + 8, found)

    return _walk(step, 8, length)


def _walk(step, begin: int, length: tf.Tensor) -> tf.Tensor:
    _, found = tf.while_loop(
        lambda place, _: place < length, step, (tf.constant(begin), tf.constant(0)), maximum_iterations=_BLOCKS
    )
    return found


def _in_tables(content: tf.Tensor, begin: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The orientation in the first table of EXIF data: an order of bytes, 42, a place; there a count and entries."""
    order = _bytes(content, begin, 2)
    big = tf.reduce_all(order == (0x4D, 0x4D))
    known = (big | tf.reduce_all(order == (0x49, 0x49))) & (_number(content, begin + 2, 2, big) == 42)
    offset = _number(content, begin + 4, 4, big)
    table = begin + offset
    known &= (offset >= 8) & (offset < length)
    count = tf.where(known, tf.minimum(_number(content, table, 2, big), _ENTRIES), 0)
    entries = table + 2 + 12 * tf.range(count)
    is_it = _number(content, entries, 2, big) == _TAG
    is_short = _number(content, entries + 2, 2, big) == 3
    values = tf.where(is_short, _number(content, entries + 8, 2, big), _number(content, entries + 8, 4, big))
    value = tf.reduce_max(tf.where(is_it, values, 0))
    return tf.where((value >= 1) & (value <= 8), value, _UPRIGHT)
