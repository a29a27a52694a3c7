"""Which pictures a page shows, where it cannot show all: those with problems first, every class, the rest evenly."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from tfdet.report.browse.collection import Collection, Picture

_FOR_PROBLEMS = 0.75  # of the pictures shown, at most: without others nobody sees what is right
_OF_A_CLASS = 10  # pictures, of classes that are rarer in what is shown
_OF_A_GROUP = 4  # pictures of a group that are nearly the same


def choose(collection: Collection, limit: int) -> list[int]:
    """The numbers of the pictures to show, ascending.

    Args:
        collection: with the problems of its pictures.
        limit: the most pictures to show.
    """
    pictures = collection.pictures
    if len(pictures) <= limit:
        return list(range(len(pictures)))
    chosen: dict[int, None] = {}
    by_kind: dict[str, list[int]] = collections.defaultdict(list)
    grouped = {number for group in collection.duplicates for number in group.members}
    for number, picture in enumerate(pictures):
        for kind in dict.fromkeys(kind for kind, _ in picture.problems):
            if number not in grouped or not _is_of_a_group(kind):
                by_kind[kind].append(number)
    groups = [_some_of(group.members, pictures) for group in collection.duplicates]
    groups.sort(key=lambda members: -len({pictures[number].split for number in members}))
    by_kind["groups"] = [number for members in groups for number in members]
    # The rarest kind has its turn first: one of its few must not be the one that does not fit.
    queues = [iter(numbers) for numbers in sorted(by_kind.values(), key=len)]
    _take_turns(queues, chosen, int(_FOR_PROBLEMS * limit))
    by_class: dict[int, list[int]] = collections.defaultdict(list)
    for number, picture in enumerate(pictures):
        for objects in (picture.truth, picture.found):
            for kind in set() if objects is None else set(objects.classes.tolist()):
                by_class[kind].append(number)
    for numbers in sorted(by_class.values(), key=len):
        there = sum(number in chosen for number in numbers)
        for number in _evenly(numbers, _OF_A_CLASS)[: max(0, _OF_A_CLASS - there)]:
            if len(chosen) < limit:
                chosen[number] = None
    for with_problems in (False, True):
        rest = [n for n, one in enumerate(pictures) if n not in chosen and bool(one.problems) == with_problems]
        chosen.update(dict.fromkeys(_evenly(rest, limit - len(chosen))))
    return sorted(chosen)


def _is_of_a_group(kind: str) -> bool:
    return "same picture" in kind


def _some_of(members: Sequence[int], pictures: Sequence[Picture]) -> list[int]:
    """A few of a group, of every split in turn."""
    by_split: dict[int, list[int]] = collections.defaultdict(list)
    for number in members:
        by_split[pictures[number].split].append(number)
    some: dict[int, None] = {}
    _take_turns([iter(numbers) for numbers in by_split.values()], some, _OF_A_GROUP)
    return list(some)


def _take_turns(queues: list[Iterable[int]], chosen: dict[int, None], limit: int) -> None:
    """Takes numbers from the queues in turn until there are so many."""
    waiting = [iter(queue) for queue in queues]
    while waiting and len(chosen) < limit:
        going_on = []
        for queue in waiting:
            number = next((number for number in queue if number not in chosen), None)
            if number is not None and len(chosen) < limit:
                chosen[number] = None
                going_on.append(queue)
        waiting = going_on


def _evenly(numbers: Sequence[int], count: int) -> list[int]:
    if count <= 0 or not numbers:
        return []
    if count >= len(numbers):
        return list(numbers)
    return [numbers[place] for place in np.linspace(0, len(numbers) - 1, count).round().astype(int)]
