"""The size of an encoded image by its header, in graph ops: known before any of it is decoded."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdet.data.image_limits import MAX_SCANS, MAX_SIDE, SCAN_MARKER

_HEADER_BYTES = 32
_GIF_STEPS = 100_000  # blocks of up to 255 bytes that are passed in search of the end of a GIF's first frame
_BYTES_OF_A_CHANCE = 65_536 // 4
_BLOCK, _EXTENSION, _FRAME, _DONE = range(4)  # what stands at the place that is looked at


def checked(value: Any, holds: tf.Tensor, message: str | tf.Tensor) -> Any:
    """The tensor or tensors; tf.errors.InvalidArgumentError with the message where bool [] `holds` is False."""
    check = tf.debugging.Assert(holds, [message])
    with tf.control_dependencies([] if check is None else [check]):  # None: outside of a graph, and nothing raised
        return tf.nest.map_structure(tf.identity, value)


def bounded(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """The image, where it has no more than `max_pixels`; of a GIF, its first frame.

    Args:
        encoded: string [], JPEG, PNG, BMP or GIF.
        max_pixels: height times width.

    Returns:
        string [].

    Raises:
        tf.errors.InvalidArgumentError: no image of these kinds, or beyond a limit (`check_sizes`), when the op runs.
    """
    encoded, size = with_size(encoded)
    return check_sizes(encoded[None], size[None], max_pixels)[0]


def check_sizes(encoded: tf.Tensor, sizes: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """The images string [B], where all of their `sizes` float64 [B, 3] (`with_size`) are within the limits.

    Raises:
        tf.errors.InvalidArgumentError: one has more than `max_pixels` pixels, `MAX_SIDE` along a side, or `MAX_SCANS`
            scans, when the op runs; it names the first such image.
    """
    has_many_pixels, has_long_side, has_many_scans = _beyond(sizes, max_pixels)
    bad = has_many_pixels | has_long_side | has_many_scans
    count = tf.size(bad)
    # Without images the least of all is no index.
    first = tf.minimum(tf.reduce_min(tf.where(bad, tf.range(count), count)), count)
    size = tf.cast(tf.pad(sizes, [[0, 1], [0, 0]])[first], tf.int64)
    limit = tf.where(
        tf.pad(has_many_pixels, [[0, 1]])[first],
        f": more than the {max_pixels} that are taken",
        tf.where(
            tf.pad(has_long_side, [[0, 1]])[first],
            f": a side of more than the {MAX_SIDE} that are taken",
            f", a JPEG of more than the {MAX_SCANS} scans that are taken",
        ),
    )
    message = tf.strings.format(
        "image {} of the batch is an image of {} x {} pixels, height and width", (first, size[0], size[1])
    )
    return checked(encoded, ~tf.reduce_any(bad), message + limit)


def refused(sizes: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Which images of these sizes float64 [B, 3] (`with_size`) are beyond the limits of `check_sizes`, bool [B]."""
    return tf.reduce_any(tf.stack(_beyond(sizes, max_pixels)), axis=0)


def _beyond(sizes: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Whether the pixels, a side and the scans are too many, bool [B] each."""
    return (
        sizes[:, 0] * sizes[:, 1] > max_pixels,
        tf.reduce_max(sizes[:, :2], axis=1) > MAX_SIDE,
        sizes[:, 2] > MAX_SCANS,
    )


def with_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """An image string [], and its height, width and scans of a JPEG, float64 [3]; of a GIF, the first frame.

    The decoder of GIFs takes the memory of all frames, also where one is asked for.

    Raises:
        tf.errors.InvalidArgumentError: no JPEG, PNG, BMP or GIF, when the op runs. TensorFlow's decoder takes WebP too,
            whose size is not looked at here.
    """
    header = _bytes(tf.strings.substr(encoded, 0, _HEADER_BYTES))
    header = tf.concat([header, tf.zeros([_HEADER_BYTES - tf.size(header)], tf.int64)], axis=0)
    is_gif = tf.reduce_all(header[:3] == [0x47, 0x49, 0x46])
    encoded, frame = tf.cond(
        is_gif, lambda: _first_frame(encoded, header), lambda: (encoded, tf.zeros([2], tf.float64))
    )
    size, scans = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: (tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.float64), _scans(encoded)),
        lambda: (_size(header, is_gif), tf.constant(0.0, tf.float64)),
    )
    return encoded, tf.concat([tf.maximum(size, frame), scans[None]], axis=0)


def _scans(encoded: tf.Tensor) -> tf.Tensor:
    """About how many scans a JPEG has, float64 []: its markers, less those that chance puts behind it.

    Phones put a film there, in which any two bytes are the marker once in 65,536 places; four times as many are passed.
    """
    content = tf.io.decode_raw(encoded, tf.uint8)
    places = tf.where((content[:-1] == SCAN_MARKER[0]) & (content[1:] == SCAN_MARKER[1]))
    return tf.cast(tf.shape(places)[0] - tf.size(content) // _BYTES_OF_A_CHANCE, tf.float64)


def _bytes(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int64)


def _size(header: tf.Tensor, is_gif: tf.Tensor) -> tf.Tensor:
    """Height and width, float64 [2], of a PNG, BMP or GIF, and no others. float64: products of 64 bits overflow."""
    big, little = (tf.constant([256.0**k for k in powers], tf.float64) for powers in ((3, 2, 1, 0), (0, 1, 2, 3)))
    values = tf.cast(header, tf.float64)

    def number(begin: int, weights: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(values[begin : begin + 4] * weights)

    png = tf.stack([number(20, big), number(16, big)])
    gif = tf.stack([values[8] + 256.0 * values[9], values[6] + 256.0 * values[7]])
    height = number(22, little)  # a negative one: lines from the top
    bmp = tf.stack([tf.minimum(height, 2.0**32 - height), number(18, little)])
    is_png, is_bmp = tf.reduce_all(header[:4] == [0x89, 0x50, 0x4E, 0x47]), tf.reduce_all(header[:2] == [0x42, 0x4D])
    size = tf.where(is_gif, gif, tf.where(is_png, png, bmp))
    return checked(size, is_png | is_bmp | is_gif, "no JPEG, PNG, BMP or GIF")


def _first_frame(encoded: tf.Tensor, header: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A GIF that ends behind its first frame, and that frame's height and width, float64 [2].

    A file is a header, a table of colours, and blocks: 0x21, an extension, and 0x2C, a frame, both with sub-blocks
    behind, each of a byte that is its length, the last of length 0 (GIF89a specification, 15 to 26).
    """
    content = _bytes(encoded)
    length = tf.size(content, tf.int64)

    def at(place: tf.Tensor) -> tf.Tensor:
        return content[tf.minimum(place, length - 1)]

    def table(flags: tf.Tensor) -> tf.Tensor:
        """Bytes of a table of colours."""
        return tf.where(
            flags >= 128, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), tf.constant(0, tf.int64)
        )

    def step(place, state, frame):
        here = at(place)
        is_frame = (state == _BLOCK) & (here == 0x2C)
        is_extension = (state == _BLOCK) & (here == 0x21)
        sides = tf.stack([at(place + 7) + 256 * at(place + 8), at(place + 5) + 256 * at(place + 6)])
        behind_blocks = tf.where(state == _FRAME, _DONE, _BLOCK)
        inside = state != _BLOCK
        ahead = tf.where(
            is_frame, 11 + table(at(place + 9)), tf.where(is_extension, tf.constant(2, tf.int64), here + 1)
        )
        after = tf.where(
            inside,
            tf.where(here == 0, behind_blocks, state),
            tf.where(is_frame, _FRAME, tf.where(is_extension, _EXTENSION, _DONE)),
        )
        ended = ~inside & ~is_frame & ~is_extension  # the trailer, or nothing that a GIF has
        return tf.where(ended, place, place + ahead), after, tf.where(is_frame, tf.cast(sides, tf.float64), frame)

    place, state, frame = tf.while_loop(
        lambda place, state, frame: (state != _DONE) & (place < length),
        step,
        (13 + table(header[10]), tf.constant(_BLOCK), tf.zeros([2], tf.float64)),
        parallel_iterations=1,
        maximum_iterations=_GIF_STEPS,
    )
    done = (state == _DONE) | (place >= length)
    frame = checked(frame, done, "a GIF of more blocks than are looked through")
    whole = tf.strings.join([tf.strings.substr(encoded, tf.constant(0, tf.int64), place), tf.constant(b"\x3b")])
    return tf.where(place < length, whole, encoded), frame
