"""Which implementation of the ops an export holds."""

import subprocess
import sys

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tests.export.test_detectors import SMALL
from tests.fakes import picture
from tfdet import config
from tfdet.config import register_all
from tfdet.data.resize import Resize
from tfdet.detectors import build_detector
from tfdet.errors import UserError
from tfdet.export.saved_model import export
from tfdet.export.verify import verify
from tfdet.ops import native
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


def exported(detector, folder, **options):
    export(detector, folder, RESIZE, CLASSES, IDS, **options)
    return op_types(folder)


def test_custom_ops_are_exported_on_demand_alone(detector, tmp_path):
    default, native_ops = tmp_path / "model", tmp_path / "native"
    if native.state().library is None:
        with pytest.raises(UserError, match="custom ops are not in use"):
            exported(detector, native_ops, implementation="native")
        assert not native_ops.exists()
        return
    with native.implementation("native"):
        ops = exported(detector, default)
        assert "Conv2D" in ops and not [op for op in ops if op.startswith("Tfdet")]
        ops = exported(detector, native_ops, implementation="native")
        assert {"TfdetRoiAlign", "TfdetGenerateProposals", "TfdetBatchedNms"} <= ops
        image = tf.io.encode_png(picture(70, 100, {0: (10, 8, 60, 47), 1: (60, 4, 95, 43)}, noise_seed=1)).numpy()
        predictor = CheckpointPredictor(detector, RESIZE, CLASSES, IDS)
        for entry in verify(predictor, str(native_ops), [image]):
            assert entry.passed() and entry.num_detections >= 5
    # In a new process the one needs nothing; the other its library, which `load_signatures` loads.
    code = (
        f"import tensorflow as tf; print(len(tf.saved_model.load({str(default)!r}).signatures))\n"
        f"from tfdet.predict.exported import load_signatures; print(len(load_signatures({str(native_ops)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["4", "3"], done.stderr
