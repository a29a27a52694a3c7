"""Evaluation on several devices at once: the figures and the detections of one, whatever the ends are like."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_detector
from tests.fakes import MaskedColorDetector, PictureInput
from tfdet.cluster import Cluster, Team
from tfdet.errors import UserError
from tfdet.evaluate.part_times import PartTimes
from tfdet.evaluate.run import detect_on, evaluate
from tfdet.predict.predictors import detect_function
from tfdet.training.on_devices import map_ahead

PICTURES = [(40 + 8 * n, 60, {n % 3: (5, 5, 20 + n, 20)}) for n in range(7)]


def cpus(count):
    return [f"/device:CPU:{index}" for index in range(count)]


@pytest.fixture(scope="module")
def one():
    return evaluate(MaskedColorDetector(), PictureInput(PICTURES, images_per_batch=2), num_samples=3)


@pytest.mark.parametrize("devices", [2, 8])  # four batches, the last one not full
def test_several_devices_give_what_one_gives(one, devices):
    detector = MaskedColorDetector()
    detect = detect_on(detector, "simpledet", cpus(devices))
    several = evaluate(detector, PictureInput(PICTURES, images_per_batch=2), num_samples=3, detect=detect)
    assert several.detections == one.detections and any("segmentation" in record for record in one.detections)
    assert several.metrics == one.metrics and several.mask_metrics == one.mask_metrics
    assert [sample.image_id for sample in several.samples] == [sample.image_id for sample in one.samples]
    few = evaluate(detector, PictureInput(PICTURES, images_per_batch=2), detect=detect, max_images=3)
    assert [record["image_id"] for record in few.detections] == [1000, 1007, 1014]


def test_devices_with_unequal_numbers_of_images(one):
    detector = MaskedColorDetector()
    detect = detect_on(detector, "simpledet", cpus(4))
    result = evaluate(detector, PictureInput(PICTURES, images_per_batch=1), detect=detect)  # 7 on 4
    assert result.num_images == 7 and result.metrics == one.metrics and result.mask_metrics == one.mask_metrics
    assert len({record["image_id"] for record in result.detections}) == 7


class SharedInput(PictureInput):
    """Batch by batch for each worker, as `EvalInput` has it."""

    def dataset(self, resize=None, part=(0, 1)):
        number, count = part
        return super().dataset(resize)[number::count]


@pytest.mark.parametrize("pictures", [PICTURES, PICTURES[:2]], ids=["uneven", "one_has_none"])
def test_two_workers_give_what_one_gives(pictures):
    """Four batches and no full last one; and a single batch, so that a worker has nothing to do."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        *ports, control = (server.getsockname()[1] for server in servers)
    cluster = {"worker": tuple(f"127.0.0.1:{port}" for port in ports)}
    detectors = [MaskedColorDetector() for _ in range(3)]
    detects = [detect_function(detector) for detector in detectors]
    for detect in detects:
        detect.get_concrete_function()  # Keras' scopes are those of a thread

    def work(number):
        team = Team(Cluster(cluster, "worker", number, control), lambda text: None, 20.0)
        source = SharedInput(pictures, images_per_batch=2)
        found = evaluate(detectors[number], source, detect=detects[number], workers=team)
        team.close()
        return found

    with ThreadPoolExecutor(2) as pool:
        chief, _ = pool.map(work, range(2))
    alone = evaluate(detectors[2], SharedInput(pictures, images_per_batch=2), detect=detects[2])
    by_image = {record["image_id"]: [] for record in alone.detections}
    for record in chief.detections:
        by_image[record["image_id"]].append(record)
    assert [record for records in by_image.values() for record in records] == alone.detections
    assert chief.metrics == alone.metrics and chief.mask_metrics == alone.mask_metrics
    assert chief.num_images == alone.num_images == len(pictures)


def test_the_weights_of_replicas_are_read_without_the_replicas(mirrored):
    """A real detector, trained or not: the same bits as by the graph that reads its variables, and the newest ones."""
    strategy = mirrored(2)
    with strategy.scope():
        detector = small_detector("fpn")
    images = np.random.default_rng(0).integers(0, 256, [2, 64, 96, 3], np.uint8)
    sizes = np.float32([[64, 96, 1], [50, 80, 1]])
    detect = detect_on(detector, "simpledet", cpus(3))
    found = []
    for _ in range(2):
        with detect.with_weights():
            several = list(map_ahead(lambda _: detect(images, sizes), range(5), 3))
        expected = detect_function(detector)(images, sizes)
        for each in several:
            for own, other in zip(each, expected, strict=True):
                assert own is None or np.array_equal(own, other)
        found.append(np.asarray(expected.scores))
        for variable in detector.trainable_variables:
            variable.assign(np.asarray(variable.value) * 1.5)
    assert not np.array_equal(*found)
    assert detect._compiled.experimental_get_tracing_count() == 1


def test_an_error_on_a_device_is_that_of_the_evaluation():
    detector = MaskedColorDetector()

    def find(images, image_info):
        tf.debugging.assert_less(tf.shape(images)[1], 70)
        return MaskedColorDetector.detect(detector, images, image_info)

    detector.detect = find
    with pytest.raises((tf.errors.InvalidArgumentError, UserError)):
        evaluate(detector, PictureInput(PICTURES), detect=detect_on(detector, "simpledet", cpus(2)))


def test_results_come_in_order_and_few_are_under_way():
    running, most, lock = 0, 0, threading.Lock()

    def call(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02 if item % 2 == 0 else 0.001)
        with lock:
            running -= 1
        return item * 10

    given = []
    items = (given.append(item) or item for item in range(9))
    results = map_ahead(call, items, 3)
    assert next(results) == 0 and len(given) == 4
    assert list(results) == [item * 10 for item in range(1, 9)] and most <= 3


def test_times_are_those_of_each_part():
    times = PartTimes()
    for _ in times.each("reading", (time.sleep(0.02) for _ in range(2))):
        with times.of("detecting"):
            time.sleep(0.05)
    assert list(times.seconds) == ["reading", "detecting"]
    assert 0.04 <= times.seconds["reading"] < times.seconds["detecting"] and times.seconds["detecting"] >= 0.1
