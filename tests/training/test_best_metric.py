"""Names of figures, which way is better, and what is refused."""

import pytest

from tfdet.errors import UserError
from tfdet.training.best_metric import VALIDATION_LOSS, BestMetric


@pytest.mark.parametrize(
    ("said", "key", "name"),
    [
        ("box AP", "AP", "box AP"),
        ("AP50", "AP50", "box AP50"),
        ("mask AP75", "mask_AP75", "mask AP75"),
        ("mask_AP", "mask_AP", "mask AP"),
        ("box AP of red car", "per_class/AP/red car", "box AP of red car"),
        ("per_class/mask_AP/a/b", "per_class/mask_AP/a/b", "mask AP of a/b"),
        ("Validation loss", VALIDATION_LOSS, "validation loss"),
        ("mAP", "mAP", "mAP"),
    ],
)
def test_names_and_keys_lead_to_each_other(said, key, name):
    metric = BestMetric.of(said)
    assert (metric.key, metric.name) == (key, name) and BestMetric.of(name) == metric


def test_better_is_higher_but_for_the_loss():
    precision, loss = BestMetric.of("box AP"), BestMetric.of("validation loss")
    assert precision.is_better(0.4, 0.3) and not precision.is_better(0.3, 0.3)
    assert loss.is_better(0.3, 0.4) and not loss.is_better(float("nan"), 0.4) and loss.is_better(9.0, float("inf"))
    assert (precision.describe(0.4123), loss.describe(0.51234)) == ("box AP 41.2", "validation loss 0.5123")
    assert precision.of_figures({"AP": float("nan")}) is None and loss.of_figures({"validation_loss": 1}) == 1.0


def test_a_figure_that_no_evaluation_gives_is_refused_with_those_that_it_gives():
    names = ["AP", "AP50", "per_class/AP/car", VALIDATION_LOSS]
    BestMetric.of("box AP of car").check(names)
    with pytest.raises(UserError) as caught:
        BestMetric.of("box AP of cart").check(names, "Trainer.stop_metric")
    assert str(caught.value) == (
        "Trainer.stop_metric = 'box AP of cart': the evaluation of this detector on this data set gives no such "
        "figure. "
        "Did you mean 'box AP of car' or 'box AP'? It gives box AP, box AP50, "
        "validation loss; 'box AP of NAME' is that of one class"
    )
