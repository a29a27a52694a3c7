"""Where the data of a run are: kept as absolute paths, so that it goes on from any folder, and looked for before."""

from __future__ import annotations

import os
from typing import Any

from tfdet import config
from tfdet.arguments import folders
from tfdet.config import Configuration
from tfdet.config.lines import Line
from tfdet.data.published.table import maker_of
from tfdet.errors import UserError
from tfdet.files import at_home, is_address

_TRAIN_DATA, _EVAL_DATA = "TrainInput.data_dir", "EvalInput.data_dir"


def check_still_there(configuration: Configuration, evaluate: bool) -> None:
    """`UserError` where data of a run that is resumed are elsewhere now; published ones can be fetched.

    Args:
        configuration: of the run.
        evaluate: whether evaluation data are needed.
    """
    flags = {_TRAIN_DATA: "--train_data"} | ({_EVAL_DATA: "--eval_data"} if evaluate else {})
    for name, flag in flags.items():
        for data in folders(configuration.value(name)) if configuration.is_bound(name) else ():
            if not is_address(data) and not os.path.exists(at_home(data)) and maker_of(data) is None:
                leave = ", or leave the evaluation out with --no_eval" if name == _EVAL_DATA else ""
                raise UserError(f"the run's data {data} are not there: say with {flag} where they are now{leave}")


def with_whole_paths(configuration: Configuration) -> Configuration:
    """The same with absolute paths of the data and of the weights to start from, each with the origin that it had."""
    lines = []
    for name in (_TRAIN_DATA, _EVAL_DATA, "Trainer.init_weights"):
        value = configuration.value(name) if configuration.is_bound(name) else None
        several = isinstance(value, (tuple, list))
        whole = [_whole(one) for one in value] if several else _whole(value)
        if whole != (list(value) if several else value):
            place = configuration.whole_place(name)
            lines.append(Line.setting(name, tuple(whole) if several else whole, place))
    return config.extended(configuration, lines) if lines else configuration


def _whole(path: Any) -> Any:
    """The absolute path of what is there; anything else as it is."""
    if not isinstance(path, str) or os.path.isabs(path) or is_address(path) or not os.path.exists(at_home(path)):
        return path
    return os.path.abspath(at_home(path))
