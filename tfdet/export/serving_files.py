"""What TF Serving finds beside a model: numbered versions, requests to warm up with, how to make batches."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.data.resize import Resize, resized_size
from tfdet.errors import UserError

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
BATCHING_FILE = os.path.join("assets.extra", "batching.config")
_BATCHING = """# tensorflow_model_server --enable_batching --batching_parameters_file=THIS FILE
# Images of one size are detected on together, those of others after one another.
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: %d }
"""


def next_version(folder: str | os.PathLike) -> str:
    """The folder of the next version below a model's: the number after the highest one there, from 1.

    Args:
        folder: of the model, absent or with folders that are numbers; others are left alone.

    Raises:
        UserError: a file is in its place, or it cannot be read.
    """
    folder = os.fspath(folder)
    if os.path.isfile(os.path.join(folder, "saved_model.pb")):
        raise UserError(f"{folder} is an export itself: give the folder that holds its versions")
    try:
        names = os.listdir(folder) if os.path.lexists(folder) else []
    except OSError as error:
        raise UserError(f"cannot read the folder of versions {folder}: {error.strerror}") from None
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    return os.path.join(folder, str(max(numbers, default=0) + 1))


def write_serving_files(folder: str | os.PathLike, resize: Resize) -> None:
    """Writes `tf_serving_warmup_requests` and `batching.config` into a SavedModel's `assets.extra`.

    Args:
        folder: the SavedModel.
        resize: of its images: one lying and one upright image are sent, each as large as the network sees it.
    """
    os.makedirs(os.path.join(folder, "assets.extra"), exist_ok=True)
    images = []
    for height, width in ((3, 4), (4, 3)):
        new_height, new_width, _ = resized_size(100 * height, 100 * width, *resize)
        gray = np.full([int(new_height), int(new_width), 3], 127, np.uint8)
        images.append(tf.io.encode_jpeg(gray).numpy())
    with tf.io.TFRecordWriter(os.path.join(folder, WARMUP_FILE)) as writer:
        for image in images:
            writer.write(prediction_log("serving_default", [image]))
    with open(os.path.join(folder, BATCHING_FILE), "w", encoding="utf-8") as file:
        file.write(_BATCHING % (os.cpu_count() or 1))


def prediction_log(signature: str, encoded: Sequence[bytes]) -> bytes:
    """A request to detect, serialised as `tensorflow.serving.PredictionLog`, whose classes are in no package of ours.

    The server puts its own model's name in. Args: signature and the images of one batch.

    Source: tensorflow_serving/apis/prediction_log.proto, predict.proto, model.proto.
    """
    model_spec = _field(3, signature.encode())
    inputs = tf.make_tensor_proto(list(encoded), tf.string).SerializeToString()
    request = _field(1, model_spec) + _field(2, _field(1, b"inputs") + _field(2, inputs))
    return _field(6, _field(1, request))  # predict_log.request


def _field(number: int, content: bytes) -> bytes:
    """A field of a message that holds bytes, as protocol buffers write it."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])
