"""The evaluation set as training would see it, and a sample of the training set as evaluation would."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfdet.commands import main
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.loss_input import LossInput, SampledInput, spread


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    assert main(["make_shapes", f"--output={folder}", "--train_images=12", "--val_images=7", "--size=64x80"]) == 0
    sides = {"short_side": 64, "long_side": 80}
    train = TrainInput(folder / "train", images_per_replica=3, **sides)
    return train, EvalInput(folder / "val", **sides)


def test_every_image_counts_once_in_batches_of_training(inputs):
    train, evaluated = inputs
    batches = LossInput(evaluated, train)
    index = evaluated.manifest.load_index()
    counted, filled = [], []
    for batch, count in batches:
        assert batch.images.shape[0] == 3 and 1 <= count <= 3
        portrait = {bool(height >= width) for height, width in np.asarray(batch.image_info)[:, :2]}
        assert len(portrait) == 1
        ids = np.asarray(batch.image_ids).tolist()
        counted += ids[:count]
        filled += ids[count:]
    assert sorted(counted) == sorted(index.image_id[index.is_trainable].tolist()) and batches.num_images == len(counted)
    assert set(filled) <= set(counted)
    again = [np.asarray(batch.image_ids).tolist() for batch, _ in batches]
    assert again == [np.asarray(batch.image_ids).tolist() for batch, _ in batches]
    assert LossInput(evaluated, train, 4).num_images == 4


def test_boxes_are_those_of_the_training_profile(inputs):
    train, evaluated = inputs
    continuous = SimpleNamespace(profile="continuous", images_per_replica=3, masks=False)
    for (legacy, _), (edges, _) in zip(LossInput(evaluated, train), LossInput(evaluated, continuous)):
        real = np.asarray(legacy.classes) >= 0
        wider = (np.asarray(edges.boxes) - np.asarray(legacy.boxes))[real]
        assert (wider[:, 2:] > 0.4).mean() > 0.9 and (wider[:, :2] < 0.01).all()


def test_a_sample_is_the_same_for_the_same_seed_and_measured_like_the_evaluation(inputs):
    train, evaluated = inputs
    samples = [SampledInput(evaluated, train, 5, seed) for seed in (0, 0, 1)]
    ids = [[int(i) for batch in sample.dataset() for i in batch.image_ids] for sample in samples]
    assert ids[0] == ids[1] != ids[2] and len(set(ids[0])) == 5 == samples[0].manifest.num_images
    truth = samples[0].ground_truth()
    assert [image["id"] for image in truth["images"]] == ids[0] and set(samples[0].image_sizes()) == set(ids[0])
    assert {annotation["image_id"] for annotation in truth["annotations"]} == set(ids[0])
    assert SampledInput(evaluated, train, 99, 0).manifest.num_images == 12
    assert evaluated.manifest.num_images == 7  # nothing of the others changed


def test_rows_are_spread_evenly():
    assert spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert spread(np.arange(3), 4).tolist() == [0, 1, 2] == spread(np.arange(3), None).tolist()
