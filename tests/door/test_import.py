"""`import tfdet`: what it costs, and what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gin
import pytest

import tfdet

ROOT = Path(tfdet.__file__).resolve().parent.parent

SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
start = time.process_time()
import tfdet
seconds = time.process_time() - start
assert not {"tensorflow", "keras", "numpy", "PIL", "gin"} & set(sys.modules), sorted(sys.modules)
assert {"load", "build", "train", "list_models", "Model", "Found"} <= set(dir(tfdet))
rows = tfdet.list_models()
assert "faster_r50v1_fpn" in [row.name for row in rows]
tfdet.load, tfdet.train, tfdet.Model
assert "tensorflow" not in sys.modules, "only a call that needs it imports TensorFlow"
print(seconds)
"""


def test_import_takes_milliseconds_and_brings_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ROOT)], capture_output=True, text=True, cwd="/", timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1


def test_every_name_is_there_and_others_are_not():
    assert [name for name in tfdet.__all__ if not hasattr(tfdet, name)] == []
    with pytest.raises(AttributeError, match="tfdet.*'lod'"):
        tfdet.lod  # noqa: B018


def test_listing_rows_leaves_gin_as_it_was():
    gin.config._OPERATIVE_CONFIG.pop(("", "tfdet.config.zoo.Row"), None)  # of another test
    before = dict(gin.config._OPERATIVE_CONFIG)
    rows = tfdet.list_models()
    assert {row.program for row in rows} == {"SimpleDet", "Detectron2", "torchvision", "MMDetection"}
    assert dict(gin.config._OPERATIVE_CONFIG) == before


def test_keras_on_another_backend_is_one_line(monkeypatch):
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(tfdet.UserError, match="Keras runs on jax here, tfdet needs TensorFlow"):
        tfdet.build("faster_r50v1_c4")
