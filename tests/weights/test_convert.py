"""tfdet's own weights as a source, the way back to SimpleDet, and the command that converts."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import rich.console
import tensorflow as tf

from tests.detectors.small import small_detector
from tests.weights.test_load import c4_detector
from tfdet import config, weights
from tfdet.commands import main
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError
from tfdet.report.weights_table import load_table
from tfdet.weights import convert, read_weights, write_params
from tfdet.weights.convert import to_simpledet, write_own
from tfdet.weights.formats.safetensors import write_safetensors
from tfdet.weights.load import assign, load_arrays
from tfdet.weights.maps import layouts, simpledet
from tfdet.weights.maps.rules import NameMap
from tfdet.weights.sources import num_classes_of, program_of
from tools.golden.simpledet_folder import read_golden
from tools.golden.simpledet_rows import build_like
from tools.reading_weights import measure_reading

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS = sorted(path.name for path in (GOLDEN / "simpledet").iterdir())
SMALL = str(GOLDEN.parent / "end_to_end" / "small.gin")


@pytest.mark.parametrize("row", ROWS)
def test_simpledets_checkpoint_comes_back_exactly(tmp_path, row):
    """Names, shapes and bits, but for the stored anchors and the gamma that SimpleDet fixes at 1."""
    config.register_all()
    golden = read_golden(GOLDEN / "simpledet" / row)
    detector = build_like(golden)
    assign(detector, golden.unfolded, simpledet.name_map(detector), row)
    write_params(tmp_path / "back.params", to_simpledet(detector))
    back = read_weights(tmp_path / "back.params")
    expected = {n: a for n, a in golden.unfolded.items() if not re.match(r"arg:anchor_stride|arg:bn_data_gamma", n)}
    assert set(back) - {"arg:bn_data_gamma"} == set(expected)
    for name, array in expected.items():
        assert back[name].shape == array.shape and back[name].tobytes() == array.tobytes(), name
    # And into the detector again.
    before = [variable.numpy() for variable in detector.weights]
    for variable in detector.weights:
        variable.assign(tf.fill(variable.shape, 9.0))
    assert not weights.load(detector, tmp_path / "back.params", strict=True).unused
    for array, variable in zip(before, detector.weights, strict=True):
        assert array.tobytes() == variable.numpy().tobytes() or variable.path.endswith("bn_data/gamma"), variable.path


@pytest.mark.parametrize(
    "step,shape",
    [
        (layouts.same, (5,)),
        (layouts.oihw_to_hwio, (4, 3, 2, 5)),
        (layouts.deconv, (4, 3, 2, 5)),
        (layouts.dense, (4, 6)),
        (layouts.dense_from_chw(3), (4, 18)),
    ],
)
def test_steps_can_be_undone(step, shape):
    array = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(layouts.inverse(step)(step(array)), array)


def test_steps_that_lose_something_cannot_be_undone():
    with pytest.raises(ValueError, match="background_first"):
        layouts.inverse(layouts.background_first)


def test_detectors_that_simpledet_does_not_have_are_refused():
    with pytest.raises(UserError, match="no grouped convolutions"):
        to_simpledet(c4_detector(groups=2, width_per_group=32))
    groups = small_detector("fpn", norm="group")
    with pytest.raises(UserError, match="groups: not convertible"):
        to_simpledet(groups)
    continuous = c4_detector()
    continuous.convention = "continuous"
    with pytest.raises(UserError, match="continuous: not convertible"):
        to_simpledet(continuous)


@pytest.fixture
def trained():
    """A detector of three classes whose every number is another."""
    detector = small_detector("fpn", num_classes=3)
    rng = np.random.default_rng(1)
    for variable in detector.weights:
        variable.assign(rng.normal(size=variable.shape))
    return detector


def equal(ours, theirs, skip=r"(?!)"):
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        assert re.search(skip, mine.path) or np.array_equal(mine, other), mine.path


def test_a_converted_file_holds_every_bit_and_what_it_was_trained_with(tmp_path, trained):
    path = tmp_path / "x.safetensors"
    paths = [variable.path for variable in trained.weights]
    write_own(path, trained, paths, NameMap([], pixel_mean=(1.0, 2.0, 3.0)), "a test")
    assert program_of(read_weights(path)) == "tfdet" and num_classes_of(read_weights(path)) == 3
    other = small_detector("fpn", num_classes=3)
    report = weights.load(other, path, strict=True)
    equal(trained, other)
    assert not report.unused and report.notes == [
        "trained with pixel_mean (1.0, 2.0, 3.0), the detector has (122.7717, 115.9465, 102.9801): set pixel_mean, or "
        "train it away"
    ]


@pytest.mark.parametrize("averaged", [False, True])
def test_a_runs_checkpoint_of_other_classes_gives_all_but_the_predictors(tmp_path, trained, averaged):
    state = {variable.path: variable.value for variable in trained.weights}
    groups = {"detector": state, "momenta": state, "progress": {"global_step": tf.Variable(7, dtype=tf.int64)}}
    if averaged:
        groups["averages"] = {path: tf.Variable(value + 1.0) for path, value in state.items()}
    tf.train.Checkpoint(**groups).write(str(tmp_path / "run/checkpoints/ckpt-7"))
    other = small_detector("fpn", num_classes=5)
    report = weights.load(other, tmp_path / "run")
    predictors = {f"bbox_head/predictor/{part}/{kind}" for part in ("cls", "box") for kind in ("kernel", "bias")}
    assert {line.split(":")[0] for line in report.mismatched} == predictors
    assert report.other_classes and not report.missing and not report.unused
    assert "all is kept but these predictors" in report.summary()
    np.testing.assert_array_equal(other.backbone.conv0.kernel, trained.backbone.conv0.kernel + float(averaged))
    with pytest.raises(UserError, match="another class count"):
        weights.load(small_detector("fpn", num_classes=5), tmp_path / "run", strict=True)


def test_a_deeper_network_of_tfdets_is_refused(tmp_path):
    deeper = c4_detector(depth=101)
    paths = [variable.path for variable in deeper.weights]
    write_own(tmp_path / "x.safetensors", deeper, paths, NameMap([]), "a test")
    with pytest.raises(UserError, match="deeper backbone: there is no backbone/stage3/unit"):
        weights.load(c4_detector(), tmp_path / "x.safetensors")


def test_all_tensors_that_are_not_finite_are_counted_and_nothing_is_assigned(trained):
    arrays = {variable.path: variable.numpy() for variable in trained.weights}
    arrays["neck/p5_conv/bias"][:] = np.inf
    arrays["backbone/conv0/kernel"][0] = np.nan
    other = small_detector("fpn", num_classes=3)
    before = [variable.numpy() for variable in other.weights]
    with pytest.raises(UserError, match=r"backbone/conv0/kernel \(and 1 more\) holds NaN or infinity"):
        load_arrays(other, arrays, "x")
    assert all(np.array_equal(a, b) for a, b in zip(before, other.weights, strict=True))


def test_the_table_counts_and_names(trained):
    arrays = {v.path: v.numpy() for v in trained.weights if not v.path.startswith(("neck", "rpn_head"))}
    arrays["bbox_head/predictor/cls/bias"] = np.zeros(9, np.float32)
    arrays["surplus"] = np.zeros(1, np.float32)
    report, _ = load_arrays(small_detector("fpn", num_classes=3), arrays, "x[1]")
    console = rich.console.Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(load_table(report))
    text = console.export_text()
    assert "weights from x[1] (tfdet)" in text and "bbox_head/predictor/cls/bias: (4,) here, (9,) in the file" in text
    assert f"and {len(report.missing) - 8} more" in text and "surplus" in text and "another class count" in text
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in text.splitlines() if "│" in line}
    assert rows["loaded"] == str(len(report.matched)) and rows["in the file and not used"] == "1"


@pytest.mark.parametrize(
    "folder,classes",
    [
        *((f"simpledet/{row}/params.params", 80) for row in ROWS),
        ("torch_small/tv_fasterrcnn_r50_fpn/weights.npz", None),
    ],
)
def test_class_counts_are_read_from_predictors(folder, classes):
    arrays = read_weights(GOLDEN / folder)
    predictor = next((a for n, a in arrays.items() if n.endswith("roi_heads.box_predictor.cls_score.bias")), None)
    assert num_classes_of(arrays) == (classes or predictor.size - 1)
    assert num_classes_of({n: a for n, a in arrays.items() if "cls" not in n}) is None


def test_the_command_converts_there_and_back(tmp_path, capsys):
    from tfdet.detectors import build_detector

    assert main(["convert_weights", str(tmp_path / "none.pth")]) == EXIT_USER_ERROR
    assert "none.pth: no such file" in capsys.readouterr().err
    first, own, back = (str(tmp_path / name) for name in ("first.params", "own.safetensors", "back.params"))
    config.register_all()
    detector = config.parse([SMALL], []).build(build_detector, num_classes=4)
    write_params(first, to_simpledet(detector))
    assert main(["convert_weights", first, f"--gin_file={SMALL}", f"--output={own}"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "of SimpleDet, 4 classes" in printed and "read again and compared: equal" in printed
    assert main(["convert_weights", own, f"--gin_file={SMALL}", f"--output={back}"]) == EXIT_OK
    assert Path(back).read_bytes() == Path(first).read_bytes()
    assert "times the file" in measure_reading(Path(own))
    for flags, message in (
        ([own, f"--output={tmp_path}/x.pth", f"--gin_file={SMALL}"], "must end in"),
        ([own, f"--output={back}"], "--gin_file is missing"),
        (
            [own, f"--gin_file={SMALL}", f"--verify={own}"],
            "runs networks of SimpleDet, keras.applications, torchvision and Detectron2",
        ),
    ):
        assert main(["convert_weights", *flags]) == EXIT_USER_ERROR
        assert message in capsys.readouterr().err


def test_a_written_file_that_differs_is_found(tmp_path, trained):
    arrays = {variable.path: variable.numpy() for variable in trained.weights}
    arrays["neck/p5_conv/bias"][0] += 1e-3
    write_safetensors(tmp_path / "x.safetensors", arrays)
    report, _ = load_arrays(small_detector("fpn", num_classes=3), arrays, "x")
    wrong = convert.different(tmp_path / "x.safetensors", trained, report.matched)
    assert wrong == ["neck/p5_conv/bias"]
    said = convert.Conversion(report, wrong).summary("x.safetensors")
    assert said == "x.safetensors does NOT hold 1 of the weights, first neck/p5_conv/bias: do not use it"


def test_the_command_fails_where_the_written_file_differs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(convert, "different", lambda *_: ["rpn_head/cls/bias"])
    config.register_all()
    detector = config.parse([SMALL]).build("build_detector", num_classes=4)
    write_params(tmp_path / "x.params", to_simpledet(detector))
    arguments = [str(tmp_path / "x.params"), f"--gin_file={SMALL}", f"--output={tmp_path}/y.safetensors"]
    assert main(["convert_weights", *arguments]) == EXIT_CHECK_FAILED
    assert "does NOT hold 1 of the weights, first rpn_head/cls/bias" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_verification_runs_kerass_network(tmp_path):
    """A full-size ResNet-50: the same maps, and a wrong weight is found."""
    from tfdet.weights import sources, verify

    network = keras.applications.ResNet50(include_top=True, weights=None)
    rng = np.random.default_rng(0)
    for variable in network.variables:
        if variable.ndim == 1 and "predictions" not in variable.path:
            variable.assign(rng.uniform(0.5, 1.0, variable.shape))
    network.save_weights(tmp_path / "r50.weights.h5")
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(rng.integers(0, 255, [50, 60, 3], np.uint8)))
    detector = c4_detector(width=1.0)
    weights.load(detector, tmp_path / "r50.weights.h5")
    compared = verify.compare(detector, sources.KERAS, tmp_path / "r50.weights.h5", tmp_path / "x.png")
    assert len(compared) == 3 and all(difference < allowed for difference, allowed in compared.values())
    detector.backbone.conv0.kernel.assign(detector.backbone.conv0.kernel[:, :, ::-1])
    compared = verify.compare(detector, sources.KERAS, tmp_path / "r50.weights.h5", tmp_path / "x.png")
    assert any(difference > allowed for difference, allowed in compared.values())
    with pytest.raises(UserError, match="not a picture"):
        verify.compare(detector, sources.KERAS, tmp_path / "r50.weights.h5", tmp_path / "r50.weights.h5")
