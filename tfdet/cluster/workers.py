"""What a run asks of its workers, where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfdet.cluster.environment import Cluster


class Workers:
    """One process that trains alone: it is the chief, asks nobody, and waits for nobody.

    `Team` is the same for several. Where a run calls these, all of its workers call them, in the same order.

    Attributes:
        number: of this worker, from 0; worker 0 is the chief, which alone writes the run's folder and speaks.
        count: of the workers.
        cluster: of several.
        worker_timeout: seconds without a word after which a worker counts as lost.
    """

    number = 0
    count = 1
    cluster: Cluster | None = None
    worker_timeout = 0.0

    @property
    def is_chief(self) -> bool:
        """Whether this is worker 0."""
        return self.number == 0

    @property
    def lost(self) -> str | None:
        """Which worker ended or does not answer, in words; None while all do."""
        return None

    def of_chief(self, key: str, make: Callable[[], Any]) -> Any:
        """What the chief makes, for all workers; its `UserError` too.

        Args:
            key: names this call.
            make: called by the chief alone; gives what JSON has.
        """
        return make()

    def arrays_of_chief(self, key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """The same of arrays by name. Args: as in `of_chief`."""
        return make()

    def gather(self, key: str, value: Any) -> Sequence[Any]:
        """Every worker's value, by worker, on the chief; on the others nothing that counts.

        Args:
            key: as in `of_chief`.
            value: what JSON has.
        """
        return [value]

    def agree(self, key: str, facts: Mapping[str, str]) -> None:
        """`UserError` on all workers where one has other facts than the chief; it names what differs and where.

        Args:
            key: as in `of_chief`.
            facts: texts by name.
        """

    def fail(self, text: str) -> None:
        """Tells the others that this worker ends by an error."""

    def close(self) -> None:
        """This worker has ended as it should."""


def differences(facts: Mapping[str, str], chiefs: Mapping[str, str], shown: int = 4) -> str | None:
    """`Trainer.momentum 0.8 there and 0.9 on worker 0; ...`; None where nothing differs."""
    names = [name for name in dict.fromkeys([*chiefs, *facts]) if facts.get(name) != chiefs.get(name)]
    if not names:
        return None
    parts = [
        f"{name}: {_cut(facts.get(name, 'not there'))} there and {_cut(chiefs.get(name, 'not there'))} on worker 0"
        for name in names[:shown]
    ]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return "; ".join(parts) + more


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
