"""Data sets that a run names and that are not there: found before anything long begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tfdet.data.published.plan import Plan, confirm, plan_fetch
from tfdet.data.published.table import Part, Published, maker_of
from tfdet.files import at_home, is_address


def plan_missing(folders: Iterable[str | os.PathLike]) -> list[Plan]:
    """What has to be fetched so that folders are data sets, agreed with a person where it is much.

    Args:
        folders: of data sets. What is there, addresses, and names that no published data set makes, take no part.

    Returns:
        One plan for each data set and place, for `fetch`.

    Raises:
        UserError: it is much and nobody is there to agree, or does not; `TFDET_OFFLINE` is set. The line says the
            command.
    """
    wanted: dict[tuple[str, Path], tuple[Published, list[Part]]] = {}
    for folder in dict.fromkeys(Path(folder) for folder in folders if not is_address(folder)):
        made = maker_of(folder)
        if made is None or os.path.exists(at_home(folder)):
            continue
        data_set, part = made
        wanted.setdefault((data_set.name, folder.parent), (data_set, []))[1].append(part)
    plans = [plan_fetch(data_set, output, parts) for (_, output), (data_set, parts) in wanted.items()]
    confirm(plans)
    return plans
