"""Workers of one machine: which GPUs each has, and what their exit codes say together."""

import pytest

from tfdet.cluster.local import _shares_of_gpus, verdict
from tfdet.commands import main
from tfdet.errors import UserError


@pytest.mark.parametrize(
    "codes, expected",
    [([0, 0], 0), ([69, -9, 69], 137), ([69, 69, 2], 2), ([75, 75], 75), ([69, 69], 69), ([0, 3], 3)],
)
def test_the_cause_has_the_say(codes, expected):
    assert verdict(codes) == expected


def test_gpus_are_shared_out():
    name = "CUDA_VISIBLE_DEVICES"
    assert _shares_of_gpus({name: "4,5,6,7,8"}, 2) == [{name: "4,5"}, {name: "6,7"}]
    assert _shares_of_gpus({name: "-1"}, 2) == [{}, {}]
    with pytest.raises(UserError, match="3 workers on 2 GPU"):
        _shares_of_gpus({name: "0,1"}, 3)


@pytest.mark.parametrize("arguments", [[], ["--workers=2", "--", "evaluate"], ["--workers=0", "--", "train"]])
def test_launch_says_what_it_takes(arguments, capsys):
    assert main(["launch", *arguments]) == 2
    assert "tfdet: error:" in capsys.readouterr().err
