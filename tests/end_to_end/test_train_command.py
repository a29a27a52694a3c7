"""`tfdet train` as a person runs it: real records, a real detector, a process of its own where one matters."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfdet.commands import main
from tfdet.errors import EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USER_ERROR

SMALL = str(Path(__file__).with_name("small.gin"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    sizes = ["--train_images=24", "--val_images=6", "--size=64x80"]
    assert main(["make_shapes", f"--output={folder}", *sizes]) == EXIT_OK
    return folder


def arguments(shapes, model_dir, *flags):
    return ["train", f"--gin_file={SMALL}", f"--model_dir={model_dir}", f"--train_data={shapes}/train", *flags]


def command(*given):
    return [sys.executable, "-m", "tfdet", *arguments(*given)]


def train(*given):
    """In a process of its own."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL")  # as a person has it
    return subprocess.run(command(*given), capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture
def train_here(capfd):
    """The same in this process, which saves the seconds that the imports take."""

    def run(*given):
        code = main(arguments(*given))
        printed = capfd.readouterr()
        return subprocess.CompletedProcess(given, code, printed.out, printed.err)

    return run


def tensors(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def straight(shapes, tmp_path_factory):
    """Six steps in one go, with evaluations that measure everything."""
    run = tmp_path_factory.mktemp("runs") / "straight"
    validation = ["--gin_param=Validation.loss = True", "--gin_param=Validation.train_images = 4"]
    return run, train(shapes, run, f"--eval_data={shapes}/val", *validation)


def test_a_run_leaves_checkpoints_configuration_and_events(straight, shapes):
    run, done = straight
    assert done.returncode == EXIT_OK, done.stderr
    for line in ("parameters trained", "time to the first training step", "step 6/6", "evaluation at step 6"):
        assert line in done.stdout + done.stderr
    assert (run / "checkpoints" / "ckpt-6.index").is_file()
    assert "RoiTargetSampler.num_rois = 16" in (run / "operative_config.gin").read_text()
    assert json.loads((run / "manifest.json").read_text())["classes"] == ["circle", "square", "triangle"]
    tags = set()
    for path in [*run.glob("train/events*"), *run.glob("eval/events*")]:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            tags |= {value.tag for value in tf.compat.v1.Event.FromString(record).summary.value}
    expected = {"loss/rpn_cls", "loss/total", "optimizer/learning_rate", "optimizer/gradient_norm", "coco/AP"}
    expected |= {"speed/data_wait_share", "class/AP/circle", "validation/loss/total", "validation/gap_AP"}
    assert expected <= tags and any(re.fullmatch(r"pictures/.+\.(jpg|png)", tag) for tag in tags)


def test_a_run_says_what_a_person_wants_to_know_and_nothing_else(straight):
    run, done = straight
    assert done.stderr == ""  # none of TensorFlow's lines
    lines = done.stdout.splitlines()
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    assert re.search(r"^step 5/6 .* left$", done.stdout, re.MULTILINE)
    (evaluation,) = [line for line in lines if line.startswith("evaluation at step")]
    assert re.fullmatch(
        r"evaluation at step 6: AP \d+\.\d  AP50 \d+\.\d .* loss \d\.\d{4}  train AP \d+\.\d  best", evaluation
    )
    end = done.stdout[done.stdout.index("finished: 6 steps in ") :]
    assert "at step 6:" in end and f"{run}/best/ckpt-6" in end
    for name in ("report", "predict", "export"):
        assert f"  tfdet {name} " in end
    table = pd.read_csv(run / "metrics.csv")
    assert table["step"].tolist() == [1, 2, 3, 4, 5, 6] and table["coco/AP"].notna().tolist() == [False] * 5 + [True]


def test_three_steps_and_three_steps_equal_six_bit_for_bit(straight, shapes, tmp_path, train_here):
    run, _ = straight
    first = train_here(shapes, tmp_path / "run", "--gin_param=Trainer.steps = 3")
    second = train_here(shapes, tmp_path / "run")
    assert (first.returncode, second.returncode) == (EXIT_OK, EXIT_OK), first.stderr + second.stderr
    assert "checkpoint of step 3" in second.stdout + second.stderr
    whole, parts = tensors(run / "checkpoints" / "ckpt-6"), tensors(tmp_path / "run" / "checkpoints" / "ckpt-6")
    assert set(whole) == set(parts) and len(whole) > 100
    others = ("save_counter", "record/")  # the record says that the run was to be three steps long
    compared = [name for name in whole if not any(other in name for other in others)]
    assert [name for name in compared if not np.array_equal(whole[name], parts[name])] == []


def test_sigterm_saves_and_the_same_command_continues(shapes, tmp_path, train_here):
    flags = ["--gin_param=Trainer.steps = 100000", "--gin_param=Trainer.checkpoint_every = 100000"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        command(shapes, tmp_path / "run", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    printed = ""
    for line in process.stdout:
        printed += line
        if "step 4/" in line:
            process.send_signal(signal.SIGTERM)
            break
    printed += process.communicate(timeout=120)[0]
    assert process.returncode == EXIT_INTERRUPTED, printed
    assert "did not update" not in printed  # orbit's view of a loop that ended early
    stopped = int(re.search(r"stopped by SIGTERM at step (\d+)", printed)[1])
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{stopped}.index").is_file()
    again = train_here(shapes, tmp_path / "run", f"--gin_param=Trainer.steps = {stopped + 2}")
    assert again.returncode == EXIT_OK and f"checkpoint of step {stopped}" in again.stdout


def test_all_recipes_in_mixed_float16_on_two_replicas_with_evaluation(shapes, tmp_path, train_here):
    recipes = ("adamw", "giou", "large_scale_jitter", "average_cosine", "random_crop", "turns", "color")
    flags = [f"--gin_file=recipes/{name}.gin" for name in recipes]
    flags += ["--gin_param=LargeScaleJitter.height = 64", "--gin_param=LargeScaleJitter.width = 80"]
    flags += ["--gin_param=Trainer.precision = 'mixed_float16'", "--gin_param=Trainer.replicas = 2"]
    flags += ["--steps=3", "--batch=auto", f"--eval_data={shapes}/val"]
    done = train_here(shapes, tmp_path / "run", *flags)
    assert done.returncode == EXIT_OK, done.stderr
    told = " ".join(done.stdout.split()) + done.stderr
    for text in ("mixed_float16, dynamic loss scale", "2 replica(s) x 2", "step 3/3", "evaluation at step 3"):
        assert text in told
    assert "--batch=auto needs a GPU, and there is none: the configuration's batch of 4 images is taken" in told
    assert "AdamW, betas 0.9 and 0.999, weight decay 0.05" in told and "cosine to 0 at step 3" in told
    saved = [np.asarray(t) for t in tensors(tmp_path / "run" / "checkpoints" / "ckpt-3").values()]
    assert {w.dtype for w in saved if w.dtype.kind == "f"} == {np.dtype("float32")}


def test_a_loss_that_is_not_finite_stops_and_names_the_step(shapes, tmp_path, train_here):
    explode = ["--gin_param=Schedule.base_lr = 1e20", "--gin_param=Trainer.checkpoint_every = 1"]
    done = train_here(shapes, tmp_path / "run", *explode)
    assert done.returncode == EXIT_DIVERGED
    assert re.search(r"tfdet: error: Step \d+: the (loss|gradient) is not finite", done.stderr)
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.index"))
    assert kept
    weights = [np.asarray(t) for t in tensors(str(kept[-1])[: -len(".index")]).values()]
    assert all(np.isfinite(w).all() for w in weights if w.dtype.kind == "f")


def test_a_corrupt_record_is_named_and_the_steps_before_it_are_kept(shapes, tmp_path, train_here):
    data = tmp_path / "broken"
    data.mkdir()
    for path in (shapes / "train").iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    shard = sorted(data.glob("*.tfrecord"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(bytes(content))
    done = train_here(shapes, tmp_path / "run", f"--train_data={data}", "--gin_param=Trainer.steps = 200")
    assert done.returncode == EXIT_USER_ERROR
    errors = [line for line in done.stderr.splitlines() if line.startswith("tfdet: error:")]
    assert len(errors) == 1 and shard.name in errors[0], done.stderr[-2000:]


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--gin_param=RpnHead.chanels = 3"], "Did you mean 'channels'"),
        (["--gin_param=Trainer.init_weights = 'nowhere.params'"], "nowhere.params: no such file"),
        (["--gin_param=Trainer.frozen = ('backbone/stage9',)"], "stage9"),
    ],
)
def test_mistakes_are_one_line(shapes, tmp_path, train_here, flags, message):
    done = train_here(shapes, tmp_path / "run", *flags)
    assert done.returncode == EXIT_USER_ERROR
    assert message in done.stderr and "Traceback" not in done.stderr
