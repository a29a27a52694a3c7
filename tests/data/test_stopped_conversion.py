"""A conversion with workers that is stopped from outside, in processes of its own."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SECONDS = 60


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """A COCO file of 400 images that take a while each."""
    folder = tmp_path_factory.mktemp("coco")
    noise = np.random.default_rng(0).integers(0, 255, [1200, 1200, 3]).astype(np.uint8)
    Image.fromarray(noise).save(folder / "first.png", compress_level=1)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for number in range(1, 401):
        (folder / f"{number}.png").symlink_to(folder / "first.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": 1200, "width": 1200})
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [9, 9, 90, 90], "area": 8100, "iscrowd": 0}
        )
    (folder / "truth.json").write_text(json.dumps(content))
    return folder


def children_of(pid):
    """Processes below one, resource trackers included."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[1] == str(pid):
            child = int(status.parent.name)
            found += [child, *children_of(child)]
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, to_all, code",
    [
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 143),
        (signal.SIGINT, True, 130),
        (signal.SIGKILL, False, -9),
    ],
)
def test_neither_workers_nor_hidden_folders_are_left(coco, tmp_path, number, to_all, code):
    flags = ["--coco", coco / "truth.json", coco, "--num_workers", "2", "--output", tmp_path / "set"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfdet", "convert_data", *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has SIGINT ignored, which would be inherited.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + SECONDS
    while not list(tmp_path.glob(".set.*/*.tfrecord")) and time.monotonic() < end:
        time.sleep(0.05)
    children = children_of(process.pid)
    assert len(children) >= 2
    os.killpg(process.pid, number) if to_all else process.send_signal(number)
    output = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == code and "Traceback" not in output, output
    while any(map(alive, children)) and time.monotonic() < end + SECONDS:
        time.sleep(0.05)
    assert not any(map(alive, children))
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []
