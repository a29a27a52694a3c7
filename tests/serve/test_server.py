"""The server over HTTP, with a stand-in for the model: paths, answers, limits, and many requests at once."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import threading
import time

import numpy as np
import pytest
import requests
import tensorflow as tf
from PIL import Image

from tests.fakes import CLASSES, picture
from tests.predict.color_predictor import ColorPredictor
from tfdet.errors import UserError
from tfdet.predict.thresholds import Thresholds
from tfdet.serve import server as server_module
from tfdet.serve.servable import Servable
from tfdet.serve.server import DetectionServer

PIXELS = picture(40, 60, {0: (10, 8, 29, 27), 2: (40, 4, 59, 23)})
MAX_UPLOAD = 200_000


def png(pixels=PIXELS) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Model:
    """Both ways to ask; notes whether two requests were in it at once."""

    def __init__(self):
        self.find = ColorPredictor(masks=True, classes=['<script>alert("x")</script>', "green", "blue"])
        self.inside, self.most, self.pause = 0, 0, 0.0

    def __call__(self, image):
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(self.pause)
        self.inside -= 1
        return self.find(image)

    def image_tensor(self, inputs):
        boxes = np.stack([self.find(image).boxes[:1] for image in inputs.numpy()])
        return {"detection_boxes": tf.constant(boxes), "num_detections": tf.ones([len(boxes)], tf.int32)}

    def image_bytes(self, inputs):
        for place, content in enumerate(inputs.numpy()):
            if not content.startswith(b"\x89PNG"):
                tf.debugging.assert_equal(0, 1, f"image {place} of the batch cannot be decoded")
        return self.image_tensor(tf.stack([tf.io.decode_png(content, 3) for content in inputs.numpy()]))


@pytest.fixture(scope="module")
def serving():
    model, lines = Model(), []
    signatures = {"image_bytes": model.image_bytes, "image_tensor": model.image_tensor}
    thresholds = Thresholds(0.3, {"blue": 0.99})
    servable = Servable("cars", "7", model, thresholds, signatures, model.find.labels.classes, "a <run>", 10**6)
    servable.warm_up()
    server = DetectionServer(servable, "127.0.0.1", 0, MAX_UPLOAD, lines.append)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.model, server.lines = model, lines
    yield server
    server.shutdown()
    server.close()
    thread.join()


def post(serving, path, content, **options):
    return requests.post(serving.address + path, content, timeout=20, **options)


def test_status_is_tf_servings(serving):
    answer = requests.get(serving.address + "v1/models/cars", timeout=20)
    (only,) = answer.json()["model_version_status"]
    assert (answer.status_code, only["version"], only["state"]) == (200, "7", "AVAILABLE")
    assert requests.get(serving.address + "v1/models/cars/versions/7", timeout=20).ok
    metadata = requests.get(serving.address + "v1/models/cars/metadata", timeout=20).json()
    assert metadata["model_spec"]["version"] == "7" and len(metadata["metadata"]["classes"]) == len(CLASSES)


def test_images_are_answered_in_rows_and_columns(serving):
    image = {"b64": base64.b64encode(png()).decode()}
    row = {"detection_boxes": [[10.0, 8.0, 30.0, 28.0]], "num_detections": 1}
    for path in ("v1/models/cars:predict", "v1/models/cars/versions/7:predict"):
        for instances in ([image, image], [{"inputs": image}] * 2):
            answer = post(serving, path, json.dumps({"instances": instances}))
            assert (answer.status_code, answer.json()) == (200, {"predictions": [row, row]})
    content = {"signature_name": "serving_default", "inputs": {"inputs": [image]}}
    columns = post(serving, "v1/models/cars:predict", json.dumps(content)).json()["outputs"]
    assert columns == {name: [value] for name, value in row.items()}
    content = {"signature_name": "image_tensor", "instances": [PIXELS.tolist()]}
    assert post(serving, "v1/models/cars:predict", json.dumps(content)).json() == {"predictions": [row]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON Parse error"),
        ("[]", "either 'instances' or 'inputs'"),
        ('{"instances": [], "inputs": []}', "not both"),
        ('{"instances": []}', "a list of one image or more"),
        ('{"instances": ["text"]}', "instance 0: give an encoded image"),
        ('{"instances": [{"b64": "?"}]}', "instance 0: 'b64' is no base64"),
        ('{"instances": [{"b64": "aGVsbG8="}]}', "image 0 of the batch cannot be decoded"),
        ('{"instances": [{"b64": ""}], "signature_name": "x"}', "Serving signature name: 'x' not found"),
        ('{"instances": [[[1, 2]]], "signature_name": "image_tensor"}', "images of one size"),
        ('{"instances": [[[[1, 2, 256]]]], "signature_name": "image_tensor"}', "values from 0 to 255"),
    ],
)
def test_a_wrong_request_is_one_line(serving, content, message):
    answer = post(serving, "v1/models/cars:predict", content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error and "\n" not in error and "Traceback" not in error


def test_one_image_as_it_is(serving):
    answer = post(serving, "detect", png()).json()
    assert (answer["width"], answer["height"], len(answer["objects"])) == (60, 40, 1), "blue has a threshold of its own"
    every = post(serving, "detect?score=0.05&picture=1", png()).json()
    assert [one["counts"] for one in every["objects"]] == [True, False]
    first = every["objects"][0]
    assert first["bbox"] == [10.0, 8.0, 20.0, 20.0] and first["color"] == "#e69f00" and len(first["outline"]) >= 4
    assert every["picture"].startswith("data:image/jpeg;base64,")
    for content, message in ((b"no image", "the image is not an image"), (b"", "the image is empty")):
        answer = post(serving, "detect", content)
        assert (answer.status_code, message in answer.json()["error"]) == (400, True)
    assert "score must be" in post(serving, "detect?score=2", png()).json()["error"]


def test_the_page_holds_names_as_text(serving):
    page = requests.get(serving.address, timeout=20)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8" and "connect-src 'self'" in page.text
    assert "alert(&#34;x&#34;)" in page.text and '<script>alert("x")' not in page.text and "a &lt;run&gt;" in page.text


def test_what_is_not_there(serving):
    for path, code in (("v1/models/bus", 404), ("v1/models/cars/versions/8", 404), ("x", 404)):
        answer = requests.get(serving.address + path, timeout=20)
        assert (answer.status_code, "error" in answer.json()) == (code, True)
    assert requests.get(serving.address + "v1/models/cars:predict", timeout=20).status_code == 405
    assert requests.put(serving.address, timeout=20).status_code == 501
    assert post(serving, "v1/models/cars:classify", "{}").status_code == 404
    assert requests.head(serving.address, timeout=20).content == b""


def test_too_much_is_refused(serving):
    answer = post(serving, "detect", bytes(MAX_UPLOAD + 1))
    assert answer.status_code == 413 and "more than the 0.2 MB" in answer.json()["error"]
    assert post(serving, "detect", iter([b"chunks"])).status_code == 411
    large = png(np.zeros([1001, 1000, 3], np.uint8))
    assert "more than the 1000000 pixels" in post(serving, "detect", large).json()["error"]
    half = {"b64": base64.b64encode(png(np.zeros([600, 1000, 3], np.uint8))).decode()}
    answer = post(serving, "v1/models/cars:predict", json.dumps({"instances": [half, half]}))
    assert answer.json()["error"] == "the images have 1200000 pixels together, more than the 1000000 that are taken"


def test_many_at_once_take_turns(serving, monkeypatch):
    serving.model.most, serving.model.pause = 0, 0.02
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(serving, "detect", png()).json()["objects"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    serving.model.pause = 0.0
    assert len(answers) == 8 and answers.count(answers[0]) == 8 and serving.model.most == 1


def test_a_fault_of_the_model_is_not_told_to_clients(serving, monkeypatch, caplog):
    monkeypatch.setattr(serving.servable, "_find", lambda image: 1 / 0)
    answer = post(serving, "detect", png())
    assert (answer.status_code, answer.json()) == (500, {"error": "the server failed; its log says why"})
    assert "ZeroDivisionError" in caplog.text


def test_strangers_of_http_do_no_harm(serving):
    with contextlib.closing(socket.create_connection(serving.server_address)) as client:
        client.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        assert b"Bad request" in client.recv(1000)
    with contextlib.closing(socket.create_connection(serving.server_address)) as client:
        client.sendall(b"POST /detect HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort")
    assert requests.get(serving.address + "healthz", timeout=20).json() == {"status": "ok"}
    end = time.monotonic() + 5  # the line is written after the answer
    while not any(line.startswith("127.0.0.1 GET /healthz 200 ") for line in serving.lines):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_more_than_its_places_are_told_to_come_again(serving, monkeypatch):
    monkeypatch.setattr(serving, "_places", threading.BoundedSemaphore(1))
    with contextlib.closing(socket.create_connection(serving.server_address)):
        end = time.monotonic() + 5
        while not serving._active and time.monotonic() < end:
            time.sleep(0.01)
        assert requests.get(serving.address + "healthz", timeout=20).status_code == 503
    while serving._active and time.monotonic() < end:
        time.sleep(0.01)
    assert requests.get(serving.address + "healthz", timeout=20).status_code == 200


def test_a_port_that_is_taken_is_one_line(serving):
    for port, host, message in (
        (serving.server_port, "127.0.0.1", "is taken: give another --port"),
        (0, "203.0.113.7", "cannot listen on 203.0.113.7"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            DetectionServer(serving.servable, host, port, MAX_UPLOAD)
        assert "\n" not in str(caught.value)
    assert server_module.SILENCE <= 60
