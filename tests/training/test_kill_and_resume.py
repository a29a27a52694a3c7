"""A run of 2 replicas that is stopped and killed ends with the bits of one that is left alone."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdet.training.checkpoint import latest_step

PROGRAM = Path(__file__).with_name("run_fake.py")
STEPS = 24
TIMEOUT = 200


def start(delay, *folders):
    command = [sys.executable, "-u", PROGRAM, str(STEPS), "2", str(delay), *folders]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def signal_after(process, text, number):
    """Sends a process the signal at its next line with `text`; returns what it wrote until then."""
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            process.send_signal(number)
            break
    return output


def finish(*folders):
    process = start(0, *folders)
    try:
        output = process.communicate(timeout=TIMEOUT)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def tensors(folder):
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"ckpt-{STEPS}"))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith("VARIABLE_VALUE")]
    return {key: reader.get_tensor(key) for key in keys if "save_counter" not in key}


def test_stopped_killed_and_continued(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    process = start(0.1, parts, parts)  # once stopped, it goes on: importing TensorFlow again takes seconds
    try:
        signal_after(process, "step 4/", signal.SIGTERM)
        output = signal_after(process, "step 14/", signal.SIGKILL) + process.communicate(timeout=TIMEOUT)[0]
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL, output
    stopped_at = int(re.search(r"stopped by SIGTERM at step (\d+)", output)[1])
    assert 4 <= stopped_at < 14 and f"checkpoint of step {stopped_at}" in output
    killed_after = latest_step(parts)
    assert 12 <= killed_after < STEPS  # at most checkpoint_every steps are lost

    output = finish(parts, whole)
    assert f"checkpoint of step {killed_after}" in output and output.count(f"step {STEPS}/{STEPS}") == 2
    expected, got = tensors(whole), tensors(parts)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, got[name], err_msg=name)
