"""Which implementation of the ops an export holds."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.export.test_detectors import SMALL, op_types
from tests.fakes import picture
from tfdet import config
from tfdet.config import register_all
from tfdet.data.resize import Resize
from tfdet.detectors import build_detector
from tfdet.errors import UserError
from tfdet.export.saved_model import export
from tfdet.export.verify import verify
from tfdet.layers import DeformConv2D
from tfdet.ops import native
from tfdet.predict.predictors import CheckpointPredictor

CLASSES, IDS, RESIZE = ["a", "b", "c"], [1, 2, 3], Resize(96, 128)


@pytest.fixture(scope="module")
def detector():
    register_all()
    return config.parse(["families/faster_fpn.gin"], SMALL).build(build_detector, num_classes=3)


def exported(detector, folder, **options):
    export(detector, folder, RESIZE, CLASSES, IDS, **options)
    return op_types(folder)


def test_deformable_convolutions_are_saved_as_asked(implementation, tmp_path):
    layer = DeformConv2D(4, strides=2, offset_groups=2, modulated=True)
    layer.build((None, None, None, 4))
    for weight in layer.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, (0, len(weight.shape))))
    module, images = tf.Module(), tf.random.stateless_normal([2, 7, 9, 4], (1, 2))
    module.layer = layer
    module.serve = tf.function(layer.call, input_signature=[tf.TensorSpec([None, None, None, 4])])
    with native.implementation(implementation):
        tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.serve.get_concrete_function())
    custom = {op for op in op_types(tmp_path / "model") if op.startswith("Tfdet")}
    # A SavedModel keeps gradients of its own making as well.
    assert custom == ({"TfdetDeformColumns", "TfdetDeformColumnsGrad"} if implementation == "native" else set())
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    for batch in (images, images[:1, :5]):
        (found,) = loaded(inputs=batch).values()
        np.testing.assert_allclose(found, layer(batch), rtol=1e-4, atol=1e-4)
    assert next(iter(loaded(inputs=images[:0]).values())).shape == (0, 4, 5, 4)


def test_custom_ops_are_exported_on_demand_alone(detector, tmp_path):
    """That none is exported otherwise, `test_detectors.py` sees on its way."""
    native_ops = tmp_path / "native"
    if native.state().library is None:
        with pytest.raises(UserError, match="custom ops are not in use"):
            exported(detector, native_ops, implementation="native")
        assert not native_ops.exists()
        return
    with native.implementation("native"):
        ops = exported(detector, native_ops, implementation="native")
        assert {"TfdetFitImage", "TfdetRoiAlign", "TfdetGenerateProposals", "TfdetBatchedNms"} <= ops
        image = tf.io.encode_png(picture(70, 100, {0: (10, 8, 60, 47), 1: (60, 4, 95, 43)}, noise_seed=1)).numpy()
        predictor = CheckpointPredictor(detector, RESIZE, CLASSES, IDS)
        for entry in verify(predictor, str(native_ops), [image]):
            assert entry.passed() and entry.num_detections >= 5
    # A new process needs their library, which `load_signatures` loads.
    code = f"from tfdet.predict.exported import load_signatures; print(len(load_signatures({str(native_ops)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["3"], done.stderr
