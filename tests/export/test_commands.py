"""evaluate, export and predict over a real data set and run folder, with the detector whose answers are known."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, picture
from tfdet.commands import main
from tfdet.data.inputs import EvalInput
from tfdet.data.manifest import Manifest
from tfdet.data.resize import Resize
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR
from tfdet.training.checkpoint import CheckpointStore
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import RunRecord
from tfdet.training.step import StepState

PICTURES = [
    (90, 180, {0: (20, 10, 99, 69), 1: (100, 30, 159, 79)}),
    (180, 90, {2: (9, 40, 60, 150)}),
    (60, 60, {}),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set folder, converted from pictures and COCO json by the command."""
    folder = tmp_path_factory.mktemp("data")
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, CLASSES)],
    }
    for index, (height, width, boxes) in enumerate(PICTURES):
        name = f"{index}.png"
        Image.fromarray(picture(height, width, boxes)).save(folder / name)
        content["images"].append({"id": 70 + index, "file_name": name, "height": height, "width": width})
        for kind, (x1, y1, x2, y2) in boxes.items():
            size = [x2 - x1 + 1, y2 - y1 + 1]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": 70 + index,
                    "category_id": CATEGORY_IDS[kind],
                    "bbox": [x1, y1, *size],
                    "area": size[0] * size[1],
                    "iscrowd": 0,
                }
            )
    (folder / "truth.json").write_text(json.dumps(content))
    arguments = ["--coco", str(folder / "truth.json"), str(folder), "--num_workers", "0"]
    arguments += ["--output", str(folder / "set")]
    assert main(["convert_data", *arguments]) == EXIT_OK
    return folder


@pytest.fixture
def run_folder(data, tmp_path, monkeypatch):
    """What training leaves: configuration, manifest, two checkpoints, of which the first finds nothing."""
    monkeypatch.setattr("tfdet.detectors.build_detector", lambda num_classes: ColorDetector())
    files = RunDirectory(tmp_path / "run")
    side = "SIDE = 90\nEvalInput.short_side = %SIDE\nEvalInput.long_side = 180\n"
    files.begin(data / "set", f"EvalInput.data_dir = '{data / 'set'}'\n{side}")
    detector = ColorDetector()
    optimizer = MomentumSGD(detector.trainable_variables, LossScale(None))
    record = RunRecord.of(Manifest.load(data / "set"))
    store = CheckpointStore(files, detector, optimizer, StepState(), record, seed=0, total_batch=1)
    kernel = detector.mix.kernel.numpy()
    detector.mix.kernel.assign(np.zeros_like(kernel))
    store.save(3)
    detector.mix.kernel.assign(kernel)
    store.save(5)
    return tmp_path / "run"


def test_evaluate_prints_and_writes(run_folder, data, tmp_path, capsys):
    output, pictures = tmp_path / "out" / "found.json", tmp_path / "pictures"
    arguments = ["evaluate", f"--model_dir={run_folder}", f"--output={output}", f"--pictures={pictures}"]
    assert main(arguments) == EXIT_OK
    text = capsys.readouterr().out
    assert "checkpoint of step 5" in text and "AP50" in text and "AP 100.0" in text
    found = json.loads(output.read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in found] == [(70, 90), (70, 7), (71, 13)]
    np.testing.assert_allclose(found[0]["bbox"], [20, 10, 80, 60], atol=0.01)
    assert sorted(path.name for path in pictures.iterdir()) == ["70.png", "71.png", "72.png"]

    assert main(["evaluate", f"--model_dir={run_folder}", f"--annotations={data / 'truth.json'}"]) == EXIT_OK
    assert "AP 100.0" in capsys.readouterr().out
    results = tmp_path / "results.jsonl"
    flags = ["--checkpoint=3", "--max_images=1", "--max_detections=300", f"--results={results}"]
    assert main(["evaluate", f"--model_dir={run_folder}", *flags]) == EXIT_OK
    text = capsys.readouterr().out
    assert "AP 0.0" in text and "(1 images" in text
    assert text.count(", %, of up to 300 detections an image") == 2 and " s: reading " in text
    record = json.loads(results.read_text())
    assert record["max_detections"] == 300 and "AR300" in record and "AR100" not in record
    assert min(record[f"{part}_seconds"] for part in ("reading", "detecting", "collecting", "figures")) >= 0


def test_evaluate_takes_overrides(run_folder, tmp_path, capsys):
    output = tmp_path / "found.json"
    # Half the size: the box edges come back rounded to two pixels.
    override = "--gin_param=SIDE = 45"
    assert main(["evaluate", f"--model_dir={run_folder}", override, f"--output={output}"]) == EXIT_OK
    box = json.loads(output.read_text())[0]["bbox"]
    assert box != [20, 10, 80, 60]
    np.testing.assert_allclose(box, [20, 10, 80, 60], atol=2.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=4"], "No checkpoint of step 4"),
        (["--checkpoint=lost"], "--checkpoint lost: give best, last or the step"),
        (["--annotations=absent.json"], "absent.json"),
        (["--max_images=0"], "--max_images 0"),
        (["--eval_data=nowhere"], "nowhere is not a folder"),
        (["--model_dir=nowhere"], "nowhere"),
    ],
)
def test_evaluate_errors_are_one_line(run_folder, arguments, message, capsys):
    assert main(["evaluate", f"--model_dir={run_folder}", *arguments]) == EXIT_USER_ERROR
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("tfdet: error: ") and message in error


def test_export_verifies_and_predict_takes_both(run_folder, data, tmp_path, capsys):
    saved = tmp_path / "served" / "1"
    assert main(["export", f"--model_dir={run_folder}", f"--output={saved}"]) == EXIT_OK
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("equal") == 3 and "tolerance" in text and "short side 90" in text
    assert f"images of {data / 'set'}" in text
    assert main(["export", f"--model_dir={run_folder}", f"--output={saved}"]) == EXIT_USER_ERROR
    assert "not empty" in capsys.readouterr().err

    found = []
    for source in (f"--model_dir={run_folder}", f"--saved_model={saved}"):
        output = tmp_path / f"predicted{len(found)}"
        assert main(["predict", str(data / "*.png"), source, f"--output={output}"]) == EXIT_OK
        found.append(json.loads((output / "detections.json").read_text()))
        assert (output / "0.png").is_file()
    assert found[0] == found[1]
    assert [entry["class_name"] for entry in found[0]["annotations"]] == ["red", "green", "blue"]
    np.testing.assert_allclose(found[0]["annotations"][0]["bbox"], [20, 10, 80, 60], atol=0.01)


def test_export_that_differs_fails(run_folder, tmp_path, capsys, monkeypatch):
    class Unsteady(ColorDetector):
        def detect(self, images, image_info):
            detections = super().detect(images, image_info)
            # Export and checkpoint trace this once each: the count makes the two differ.
            Unsteady.traces += 1
            return detections._replace(boxes=detections.boxes + float(Unsteady.traces))

    Unsteady.traces = 0
    monkeypatch.setattr("tfdet.detectors.build_detector", lambda num_classes: Unsteady())
    assert main(["export", f"--model_dir={run_folder}", f"--output={tmp_path / 'out'}"]) == EXIT_CHECK_FAILED
    text = capsys.readouterr().out
    assert text.count("DIFFERS") == 3 and "do not use it" in text


def test_export_without_detections_says_that_nothing_was_compared(run_folder, tmp_path, capsys):
    arguments = ["export", f"--model_dir={run_folder}", f"--output={tmp_path / 'out'}", "--checkpoint=3"]
    assert main(arguments) == EXIT_OK
    assert "nothing was compared" in capsys.readouterr().out.replace("\n", " ")


def test_export_needs_no_data_set(run_folder, data, tmp_path, capsys):
    config = run_folder / "config.gin"
    config.write_text(config.read_text().replace(str(data / "set"), "/gone"))
    assert main(["export", f"--model_dir={run_folder}", f"--output={tmp_path / 'drawn'}"]) == EXIT_OK
    assert "on drawn images" in capsys.readouterr().out.replace("\n", " ")
    arguments = ["--images", str(data / "0.png"), str(data / "1.png")]
    assert main(["export", f"--model_dir={run_folder}", f"--output={tmp_path / 'given'}", *arguments]) == EXIT_OK
    assert "on the images given" in capsys.readouterr().out.replace("\n", " ")


def test_predict_counts_what_failed(run_folder, data, tmp_path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    arguments = [str(data / "0.png"), str(bad), f"--model_dir={run_folder}", f"--output={tmp_path / 'out'}"]
    assert main(["predict", *arguments]) == EXIT_CHECK_FAILED
    text = capsys.readouterr().out.replace("\n", "")
    assert "bad.jpg" in text and "1 of 2 could not be read (named above)" in text
    assert (tmp_path / "out" / "0.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --model_dir"),
        (["--saved_model=x", "--model_dir=y"], "give one of --model_dir"),
        (["--saved_model=x", "--checkpoint=3"], "holds its own configuration"),
        (["--saved_model=x"], "x is no SavedModel"),
        (["--saved_model=x", "--score_threshold=30"], "--score_threshold 30"),
    ],
)
def test_predict_errors_are_one_line(data, arguments, message, capsys):
    assert main(["predict", str(data / "0.png"), *arguments]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err


def test_predict_without_images(data, tmp_path, capsys):
    assert main(["predict", str(tmp_path), "--saved_model=x"]) == EXIT_USER_ERROR
    assert "no image found" in capsys.readouterr().err


def test_exported_graph_prepares_images_as_the_evaluation_input_does(data):
    """Pixels and image_info inside the export equal those of the input pipeline, batched and padded."""
    from tfdet.export.saved_model import DetectionModule, decode_image

    module = DetectionModule(ColorDetector(), Resize(45, 100))
    encoded = [(data / f"{index}.png").read_bytes() for index in range(3)]
    _, (images, image_info, sizes) = module._prepare(tf.constant(encoded), decode_image)
    (batch,) = EvalInput(str(data / "set"), short_side=45, long_side=100, images_per_batch=3).dataset()
    np.testing.assert_array_equal(images, batch.images)
    np.testing.assert_array_equal(image_info, batch.image_info)
    np.testing.assert_array_equal(sizes, [boxes[:2] for boxes in PICTURES])
