"""The batch that a GPU has memory for, with stand-ins for the process that tries it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfdet import config
from tfdet.bench.batch_size import _OF_MEMORY, TOO_LARGE, automatic_batch, chosen, largest, probe_batch
from tfdet.errors import UserError

# Runs out of memory above a limit, each time in another of the ways in which a process does.
CHILD = """
import json, os, signal, sys
content, images, limit = json.load(sys.stdin), int(sys.argv[-1]), int(sys.argv[1])
assert content == {"files": ["row.gin"], "lines": ["Trainer.steps = 3"], "num_classes": 2, "allow_imports": False}
if images > limit:
    way = images % 4
    if way == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if way == 1:
        os.abort()
    if way == 2:
        sys.exit(9)
    sys.exit("ResourceExhaustedError: OOM when allocating tensor with shape[64,800,1344]")
"""


def probe(child, tell=lambda _: None):
    return probe_batch(["row.gin"], ["Trainer.steps = 3"], 2, tell=tell, child=[sys.executable, "-c", *child])


def test_the_largest_that_fits_is_found_with_few_tries():
    for limit in (1, 2, 3, 7, 8, 21, 100, 256, 1000):
        tried = []

        def fits(images, limit=limit, tried=tried):
            tried.append(images)
            return images <= limit

        found = largest(fits)
        assert found <= limit and found in tried and found >= min(limit, 256) - max(1, min(limit, 256) // 8)
        assert len(tried) == len(set(tried)) <= 13
        too_large = [images for images in tried if images > limit]
        assert too_large == sorted(too_large, reverse=True)  # never beyond one that did not fit
    assert largest(lambda images: False) == 0


def test_nine_tenths_are_taken():
    assert [chosen(fitting) for fitting in (1, 2, 10, 64)] == [1, 1, 9, 57]
    with pytest.raises(UserError, match="not even one image fits"):
        chosen(0)


def test_a_child_that_dies_of_memory_ends_nothing_here():
    told = []
    assert probe([CHILD, "6"], told.append) == 5
    assert told[0] == "--batch=auto: 1 images a device fit" and told[-1] != told[-2]
    assert "--batch=auto: 8 images a device do not fit" in told


def test_a_child_that_fails_otherwise_is_one_line():
    with pytest.raises(UserError, match="1 images could not be tried: no such row; give --batch a number"):
        probe(["import sys; sys.exit('Traceback:\\nno such row')", "6"])
    with pytest.raises(UserError, match="not even one image fits"):
        probe([CHILD, "0"])


def test_a_gpu_is_needed_and_a_run_that_goes_on_keeps_its_batch(tmp_path):
    import tfdet.data.inputs
    import tfdet.training.trainer  # noqa: F401

    configuration = config.parse([], ["TrainInput.images_per_replica = 3", "Trainer.accumulate = 2"])
    told, probed = [], []

    def probe(files, lines, num_classes, allow_imports, tell):
        probed.append((list(files), lines, num_classes))
        return 10

    def automatic(own_run=None, on_gpu=True):
        return automatic_batch(configuration, 5, own_run, 2, on_gpu, told.append, probe)

    assert automatic(on_gpu=False) == 12 and "needs a GPU, and there is none" in told[-1]
    (tmp_path / "config.gin").write_text("TrainInput.images_per_replica = 7\n")
    assert automatic(tmp_path) == 28 and "goes on with its batch of 28" in told[-1]
    assert probed == []
    assert automatic() == 40 and told[-1] == "--batch=auto: 40 images"
    assert probed == [([], ["TrainInput.images_per_replica = 3", "Trainer.accumulate = 2"], 5)]


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes, code", [(None, 0), (3, "of memory")])
def test_the_real_child_takes_steps_or_dies_of_memory(gigabytes, code):
    """On a CPU, whose memory is what the system lets the process have."""
    root = Path(__file__).resolve().parents[2]
    content = {"files": ["demo_shapes.gin"], "lines": [], "num_classes": 3, "allow_imports": False}
    limit = "" if gigabytes is None else f"ulimit -v {gigabytes * 2**20}; "
    images = 2 if gigabytes is None else 4000
    done = subprocess.run(
        ["bash", "-c", f"{limit}exec {sys.executable} -m tfdet.bench.batch_child {images}"],
        input=json.dumps(content), capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    if code == 0:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode in (TOO_LARGE, -6, -9, -11) or any(word in done.stderr for word in _OF_MEMORY), (
            done.stderr
        )
