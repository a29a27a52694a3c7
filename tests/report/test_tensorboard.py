"""Event files read back."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfdet.report.tensorboard import EventWriter, TensorBoardReport
from tfdet.training.observer import Progress

PROGRESS = Progress(
    step=40,
    total_steps=100,
    losses={"rpn_cls": 0.25, "rpn_box": 0.125},
    total=0.375,
    learning_rate=0.0025,
    gradient_norm=1.5,
    loss_scale=128.0,
    skipped_steps=3,
    images_per_second=12.5,
    data_wait=0.25,
    seconds_left=10.0,
    gpu_memory_peak=None,
)


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def scalars(folder):
    events = read(folder)
    found = {}
    for tag in events.Tags()["tensors"]:
        for event in events.Tensors(tag):
            value = tf.make_ndarray(event.tensor_proto)
            if value.shape == () and value.dtype == np.float32:
                found[tag, event.step] = float(value)
    return found


def text(folder, tag):
    return tf.make_ndarray(read(folder).Tensors(tag)[0].tensor_proto).item().decode()


def test_every_figure_of_a_report(tmp_path):
    report = TensorBoardReport(tmp_path)
    report.progressed(PROGRESS)
    report.closed()
    assert scalars(tmp_path) == {
        ("loss/rpn_cls", 40): 0.25,
        ("loss/rpn_box", 40): 0.125,
        ("loss/total", 40): 0.375,
        ("optimizer/learning_rate", 40): pytest.approx(0.0025),
        ("optimizer/gradient_norm", 40): 1.5,
        ("optimizer/loss_scale", 40): 128.0,
        ("optimizer/skipped_steps", 40): 3.0,
        ("speed/images_per_second", 40): 12.5,
        ("speed/data_wait_share", 40): 0.25,
    }


def test_memory_where_a_gpu_reports_it_and_no_speed_before_it_is_known(tmp_path):
    import dataclasses

    report = TensorBoardReport(tmp_path)
    report.progressed(dataclasses.replace(PROGRESS, gpu_memory_peak=3 * 2**30, images_per_second=None, data_wait=None))
    report.closed()
    tags = {tag for tag, _ in scalars(tmp_path)}
    assert scalars(tmp_path)["memory/gpu_peak_gib", 40] == 3.0
    assert not any(tag.startswith("speed/") for tag in tags)


def test_the_configuration_and_the_table_are_text(tmp_path):
    report = TensorBoardReport(tmp_path)
    report.started({"steps": "100", "batch": "2 images"})
    report.configured("Trainer.steps = 100\n# *star*")
    report.closed()
    assert text(tmp_path, "operative_config") == "    Trainer.steps = 100\n    # *star*"
    assert text(tmp_path, "run") == "    steps  100\n    batch  2 images"


def test_pictures_and_graph(tmp_path):
    writer = EventWriter(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 255, [2, 4, 5, 3]).astype(np.uint8)
    writer.images(7, "detections", pictures)
    graph = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([])).graph
    writer.graph(graph)
    writer.flush()
    events = read(tmp_path)
    (event,) = events.Tensors("detections")
    encoded = tf.make_ndarray(event.tensor_proto)[2:]  # width and height come first
    np.testing.assert_array_equal([tf.io.decode_png(png).numpy() for png in encoded], pictures)
    assert event.step == 7 and events.Graph() is not None
    writer.close()


def test_nothing_written_leaves_no_file(tmp_path):
    writer = EventWriter(tmp_path / "events")
    writer.flush()
    writer.close()
    assert not (tmp_path / "events").exists()
