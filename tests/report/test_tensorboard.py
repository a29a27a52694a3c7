"""Event files read back."""

import resource
import signal

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
    assert list(tmp_path.iterdir()) == []  # the run may still be refused
    report.first_step(1.0)
    report.closed()
    assert text(tmp_path, "operative_config") == "    Trainer.steps = 100\n    # *star*"
    assert text(tmp_path, "run") == "    steps  100\n    batch  2 images"


def written(folder):
    """Scalars of every event file by tag and step, each read up to the event that is cut short."""
    found = {}
    for path in folder.iterdir():
        records = iter(tf.data.TFRecordDataset(str(path)))
        while True:
            try:
                event = tf.compat.v1.Event.FromString(next(records).numpy())
            except (StopIteration, tf.errors.DataLossError):
                break
            found |= {
                (value.tag, event.step): float(tf.make_ndarray(value.tensor))
                for value in event.summary.value
                if value.tag == "AP"
            }
    return found


def test_a_folder_that_cannot_be_written_costs_one_warning_until_it_can(tmp_path):
    warned, folder = [], tmp_path / "eval"
    folder.write_text("in the way")
    writer = EventWriter(folder, warned.append)
    for step in (1, 2):
        writer.scalars(step, {"AP": 0.5})
        writer.images(step, "found", np.zeros([1, 4, 5, 3], np.uint8))
    assert len(warned) == 1 and str(folder) in warned[0] and "figures are lost" in warned[0]
    folder.unlink()
    writer.scalars(3, {"AP": 0.25})
    writer.close()
    assert scalars(folder) == {("AP", 3): 0.25} and len(warned) == 1


def test_a_disk_that_fills_up_costs_figures_and_no_error(tmp_path):
    warned, random = [], np.random.default_rng(0)
    writer = EventWriter(tmp_path, warned.append)
    writer.scalars(1, {"AP": 0.5})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # a limit on file sizes fails a write as a full disk does
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        writer.images(2, "found", random.integers(0, 255, [1, 200, 200, 3]).astype(np.uint8))
        writer.scalars(2, {"AP": 0.25})  # into another file
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        for step in (3, 4):
            writer.scalars(step, {"AP": 0.125})
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(warned) == 1 and "cannot be written" in warned[0]
    writer.scalars(5, {"AP": 1.0})
    writer.close()
    assert written(tmp_path) == {("AP", 1): 0.5, ("AP", 2): 0.25, ("AP", 5): 1.0}


def test_pictures_and_graph(tmp_path):
    writer = EventWriter(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 255, [2, 4, 5, 3]).astype(np.uint8)
    writer.images(7, "detections", pictures)
    graph = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([])).graph
    writer.graph(graph)
    events = read(tmp_path)
    (event,) = events.Tensors("detections")
    encoded = tf.make_ndarray(event.tensor_proto)[2:]  # width and height come first
    np.testing.assert_array_equal([tf.io.decode_png(png).numpy() for png in encoded], pictures)
    assert event.step == 7 and events.Graph() is not None
    writer.close()


def test_nothing_written_leaves_no_file(tmp_path):
    writer = EventWriter(tmp_path / "events")
    writer.close()
    assert not (tmp_path / "events").exists()
