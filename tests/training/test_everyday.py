"""What `--steps`, `--lr` and the others become in configurations of every family."""

from pathlib import Path

import pytest

from tfdet import config
from tfdet.config.show import settings
from tfdet.errors import UserError
from tfdet.training.everyday import Everyday, ignored_epochs
from tfdet.training.schedule import Schedule

SMALL = str(Path(__file__).parent.parent / "end_to_end" / "small.gin")


@pytest.fixture(scope="module", autouse=True)
def registered():
    config.register_all()


def settled(flags, *files, params=(), continues=False):
    """What the flags bind, as (name -> value), the notes, and the configuration with them."""
    configuration = config.parse(files, params)
    lines, notes = Everyday(**flags).settle(configuration, continues)
    after = config.extended(configuration, lines)
    return {line.split(" = ")[0]: line.split(" = ")[1] for line in lines}, notes, after


def test_every_value_has_the_flag_as_its_origin_and_the_runs_file_keeps_it(tmp_path):
    _, _, configuration = settled({"lr": 0.01, "seed": 3, "steps": 20}, "faster_r50v1_fpn.gin")
    places = {f"{s.part}.{s.parameter}": s.place for s in settings(configuration)}
    assert (places["Schedule.base_lr"], places["Trainer.seed"], places["Trainer.steps"]) == (
        "--lr",
        "--seed",
        "--steps",
    )
    text = configuration.text()
    assert "# from --lr\nSchedule.base_lr = 0.01\n" in text and "# from --seed\nTrainer.seed = 3\n" in text
    (tmp_path / "config.gin").write_text(text)
    again = config.parse([str(tmp_path / "config.gin")])
    assert again.text() == text and again.place("Schedule.base_lr").endswith("(--lr)")
    assert again.value("Trainer.steps") == 20 and not again.place("Schedule.decay_steps").endswith(")")


def test_when_a_run_is_complete_and_where_its_figures_go():
    lines, _, after = settled({"patience": 3, "sinks": "csv, wandb"}, SMALL)
    assert lines["Trainer.patience"] == "3" and after.value("Trainer.sinks") == ("csv", "wandb")
    assert settled({"sinks": "none"}, SMALL)[2].value("Trainer.sinks") == ()
    with pytest.raises(UserError, match="^--sinks: Trainer.sinks = .*wanddb"):
        settled({"sinks": ["wanddb"]}, SMALL)


def test_a_wrong_value_names_the_flag():
    with pytest.raises(UserError, match=r"^--lr: Schedule.base_lr = -1"):
        settled({"lr": -1}, SMALL)
    with pytest.raises(UserError, match="--steps and --epochs both say"):
        settled({"steps": 3, "epochs": 2}, SMALL)


@pytest.mark.parametrize("row", ["faster_r50v1_fpn.gin", "faster_r50v1b_fpn_2x.gin", "retina_r50v1_fpn.gin"])
def test_the_decays_of_a_zoo_row_move_with_its_length(row):
    lines, notes, after = settled({"steps": 900}, row)
    assert lines["Schedule.decay_at"] == "(0.682, 0.91)" and lines["Schedule.warmup_at_most"] == "0.1"
    assert after.value("Schedule.length_factor") == 1 and ("Schedule.length_factor" in lines) == ("2x" in row)
    rate = after.build(Schedule).for_batch(2, 900)
    assert rate.boundaries == (614, 819) and rate.warmup_steps == 90
    assert "decays at 68% and 91% of the run, and the warm-up takes at most 10% of the run" in notes[0]
    assert any(note.startswith("--steps counts, and not Trainer.epochs = 6.0 (schedules/") for note in notes)


def test_the_recipes_of_other_programs_have_the_same_shares():
    assert settled({"epochs": 3}, "torchvision/fasterrcnn_r50_fpn.gin")[0]["Schedule.decay_at"] == "(0.615, 0.846)"
    assert settled({"epochs": 3}, "detectron2/faster_rcnn_r50_fpn.gin")[0]["Schedule.decay_at"] == "(0.667, 0.889)"


def test_epochs_drop_the_steps_of_a_file_and_say_so():
    lines, notes, after = settled({"epochs": 1.5}, "demo_shapes.gin")
    assert after.value("Trainer.steps") is None and after.value("Trainer.epochs") == 1.5
    assert lines["Schedule.decay_at"] == "(0.833,)"
    (said,) = [note for note in notes if "counts" in note]
    assert said.startswith("--epochs counts, and not Trainer.steps = 1200 (demo_shapes.gin:")
    params = ["Trainer.epochs = 2", "Schedule.decay_steps = (5,)"]
    lines, notes, after = settled({"steps": 9}, "demo_shapes.gin", params=params)
    assert "--steps counts, and not Trainer.epochs = 2 (--gin_param)" in notes and "Schedule.decay_at" not in lines
    (warning,) = ignored_epochs(config.parse(["demo_shapes.gin"], params))
    assert warning.startswith(
        "Trainer.epochs = 2 (--gin_param) does nothing, for Trainer.steps = 1200 (demo_shapes.gin"
    )
    assert ignored_epochs(config.parse(["demo_shapes.gin"])) == [] == ignored_epochs(after)[1:]


def test_the_schedule_of_a_run_that_goes_on_stays_as_it_is():
    lines, notes, _ = settled({"steps": 900, "batch": 4}, "faster_r50v1b_fpn_2x.gin", continues=True)
    assert lines == {"Trainer.steps": "450", "TrainInput.images_per_replica": "4"}
    assert notes[0] == "--steps 900: 450 times the run's own Schedule.length_factor = 2"


@pytest.mark.parametrize(
    ("flags", "file", "params", "rate", "note"),
    [
        ({"batch": 4}, "faster_r50v1_fpn.gin", [], 0.005, "learning rate 0.005 = 0.02 x 4 / 16, in proportion"),
        ({"batch": 4, "lr": 0.03}, "faster_r50v1_fpn.gin", [], 0.03, None),
        ({"lr": 0.03}, "demo_shapes.gin", [], 0.03, None),
        ({"batch": 4}, "demo_shapes.gin", [], 0.01, "learning rate 0.01 = 0.02 x 4 / 8, in proportion"),
        ({"batch": 12}, "demo_shapes.gin", ["Trainer.accumulate = 2", "Trainer.replicas = 3"], 0.005, "x 12 / 48"),
        ({"batch": 4}, "recipes/adamw.gin", [], 0.000025, "= 0.0001 x 4 / 16"),
    ],
)
def test_the_batch_is_that_of_an_update_and_the_rate_follows(flags, file, params, rate, note):
    _, notes, after = settled(flags, file, params=params)
    batch = flags.get("batch", 8)
    assert after.build(Schedule, warmup_steps=0).for_batch(batch).base == pytest.approx(rate)
    assert (note is None and not notes) or note in notes[-1]
    if "batch" in flags:
        shared = (after.value("Trainer.replicas") or 1) * after.value("Trainer.accumulate")
        assert after.value("TrainInput.images_per_replica") * shared == batch


def test_a_batch_that_does_not_come_out_even_is_refused():
    with pytest.raises(UserError, match=r"--batch 6: .* over 2 replicas x 2 micro-batches .* give a multiple of 4"):
        settled({"batch": 6}, SMALL, params=["Trainer.accumulate = 2", "Trainer.replicas = 2"])


SIDES = [f"{part}.{side}" for part in ("TrainInput", "EvalInput") for side in ("short_side", "long_side")]


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ("512", (512, 512)),
        (512, (512, 512)),
        ("800x1333", (800, 1333)),
        ("1333X800", (800, 1333)),
        ((64, 80), (64, 80)),
    ],
)
def test_one_size_for_training_and_testing(size, sides):
    _, _, after = settled({"image_size": size}, "faster_r50v1_c4.gin")
    assert tuple(after.value(name) for name in SIDES) == sides * 2


def test_what_is_stated_in_proportion_to_the_size_goes_along():
    several = "TrainInput.short_side = (640, 672, 704, 736, 768, 800)"
    views = ["TestTimeAugmentation.scales = (600, 800)", "TestTimeAugmentation.long_side = 1333"]
    _, notes, after = settled({"image_size": "400x600"}, "faster_r50v1_fpn.gin", params=[several, *views])
    assert after.value("TrainInput.short_side") == (320, 336, 352, 368, 384, 400)
    assert after.value("TestTimeAugmentation.scales") == (300, 400)
    assert after.value("TestTimeAugmentation.long_side") == 600
    assert "--image_size counts, and not TrainInput.short_side" in notes[0] and "320, 336" in notes[1]
    files = ("faster_r50v1_fpn.gin", "recipes/large_scale_jitter.gin")
    _, _, after = settled({"image_size": 640}, *files)
    assert (after.value("LargeScaleJitter.height"), after.value("LargeScaleJitter.width")) == (640, 640)
    with pytest.raises(UserError, match="LargeScaleJitter shows every image on one window.* --image_size 1333"):
        settled({"image_size": "800x1333"}, *files)


@pytest.mark.parametrize("size", ["big", "800x", "0", True, (1, 2, 3), 1.5])
def test_no_image_size(size):
    with pytest.raises(UserError, match="--image_size"):
        settled({"image_size": size}, SMALL)
