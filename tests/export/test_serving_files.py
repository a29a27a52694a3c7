"""Numbered versions, warm-up requests and batching parameters, read as TF Serving reads them."""

import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfdet.errors import UserError
from tfdet.export.serving_files import BATCHING_FILE, WARMUP_FILE, next_version, prediction_log
from tfdet.predict.exported import load_signatures

FIELD = descriptor_pb2.FieldDescriptorProto


def messages(name, **fields):
    """Message classes by name, of `fields`: message -> {field: (number, type or message)}, without their package."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto3")
    for message, content in fields.items():
        added = file.message_type.add(name=message)
        for field, (number, kind) in content.items():
            repeated = field == "inputs"
            entry = added.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                entry.type, entry.type_name = FIELD.TYPE_MESSAGE, f".{name}.{kind}"
            else:
                entry.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{name}.{message}")) for message in fields
    }


def test_warmup_requests_are_prediction_logs_that_the_model_answers(exported):
    """Fields and numbers are those of tensorflow_serving/apis: prediction_log, predict and model.proto."""
    kinds = messages(
        "apis",
        ModelSpec={"name": (1, FIELD.TYPE_STRING), "signature_name": (3, FIELD.TYPE_STRING)},
        Entry={"key": (1, FIELD.TYPE_STRING), "value": (2, FIELD.TYPE_BYTES)},
        PredictRequest={"model_spec": (1, "ModelSpec"), "inputs": (2, "Entry")},
        PredictLog={"request": (1, "PredictRequest")},
        PredictionLog={"predict_log": (6, "PredictLog")},
    )
    records = list(tf.data.TFRecordDataset(str(exported / WARMUP_FILE)))
    assert len(records) == 2
    sizes = set()
    for record in records:
        request = kinds["PredictionLog"].FromString(record.numpy()).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        (entry,) = request.inputs
        assert entry.key == "inputs"
        images = tf.make_ndarray(TensorProto.FromString(entry.value))
        outputs = load_signatures(exported)["image_bytes"](tf.constant(images))
        assert outputs["image_status"].numpy().tolist() == [0]
        sizes.add(tuple(outputs["image_info"][0, 0].numpy().astype(int)))
    assert sizes == {(64, 85), (85, 64)}  # as the network sees them, lying and upright
    long = kinds["PredictionLog"].FromString(prediction_log("image_bytes", [b"x" * 70_000]))  # lengths of three bytes
    assert len(long.predict_log.request.inputs[0].value) > 70_000


def test_batching_parameters_are_the_text_form_of_their_message(exported):
    """tensorflow_serving/servables/tensorflow/session_bundle_config.proto, BatchingParameters."""
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    kinds = messages(
        "config",
        Int64Value={"value": (1, FIELD.TYPE_INT64)},
        BatchingParameters={name: (number, "Int64Value") for number, name in enumerate(names, 1)},
    )
    found = text_format.Parse((exported / BATCHING_FILE).read_text(), kinds["BatchingParameters"]())
    assert found.max_batch_size.value == 8 and found.num_batch_threads.value >= 1
    assert found.batch_timeout_micros.value > 0 and found.max_enqueued_batches.value > 0


def test_versions_count_up(tmp_path):
    folder = tmp_path / "model"
    assert next_version(folder) == str(folder / "1")
    for name in ("2", "10", "notes", "3.old"):
        (folder / name).mkdir(parents=True)
    assert next_version(folder) == str(folder / "11")
    (folder / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match="is an export itself"):
        next_version(folder)
    with pytest.raises(UserError, match="cannot read the folder of versions"):
        next_version(folder / "saved_model.pb")
