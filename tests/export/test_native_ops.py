"""Which implementation of the ops an export holds."""

import subprocess
import sys

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tests.export.test_two_stage import SMALL
from tests.fakes import picture
from tfdet import config
from tfdet.config import register_all
from tfdet.data.resize import Resize
from tfdet.detectors import build_detector
from tfdet.errors import UserError
from tfdet.export.saved_model import export
from tfdet.export.verify import verify
from tfdet.ops import native
from tfdet.predict.exported import load_signatures
from tfdet.predict.predictors import CheckpointPredictor

CLASSES, IDS, RESIZE = ["a", "b", "c"], [1, 2, 3], Resize(96, 128)


@pytest.fixture(scope="module")
def detector():
    register_all()
    return config.parse(["families/faster_fpn.gin"], SMALL).build(build_detector, num_classes=3)


def op_types(folder) -> set[str]:
    """Every op in a SavedModel: of its graph and of its functions."""
    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    nodes = [node for meta in model.meta_graphs for node in meta.graph_def.node]
    functions = [function for meta in model.meta_graphs for function in meta.graph_def.library.function]
    return {node.op for node in nodes} | {node.op for function in functions for node in function.node_def}


def test_by_default_no_custom_op_is_exported(detector, implementation, tmp_path):
    """Also where the custom ops are in use; a process that never loads them can load the model."""
    export(detector, tmp_path / "model", RESIZE, CLASSES, IDS)
    ops = op_types(tmp_path / "model")
    assert "Conv2D" in ops and not [op for op in ops if op.startswith("Tfdet")]
    if implementation == "python":
        return
    code = f"import tensorflow as tf; print(len(tf.saved_model.load({str(tmp_path / 'model')!r}).signatures))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "4"


def test_native_ops_are_exported_on_demand(detector, tmp_path):
    if native.state().library is None:
        with pytest.raises(UserError, match="custom ops are not in use"):
            export(detector, tmp_path / "model", RESIZE, CLASSES, IDS, implementation="native")
        assert not (tmp_path / "model").exists()
        return
    export(detector, tmp_path / "model", RESIZE, CLASSES, IDS, implementation="native")
    assert {"TfdetRoiAlign", "TfdetGenerateProposals", "TfdetBatchedNms"} <= op_types(tmp_path / "model")
    image = tf.io.encode_png(picture(70, 100, {0: (10, 8, 60, 47), 1: (60, 4, 95, 43)}, noise_seed=1)).numpy()
    with native.implementation("native"):
        predictor = CheckpointPredictor(detector, RESIZE, CLASSES, IDS)
        for entry in verify(predictor, str(tmp_path / "model"), [image]):
            assert entry.passed() and entry.num_detections >= 5
    # A new process has to load the library first; load_signatures does it by itself.
    code = (
        f"from tfdet.predict.exported import load_signatures; print(len(load_signatures({str(tmp_path / 'model')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "3", done.stderr
    assert len(load_signatures(tmp_path / "model")) == 3
