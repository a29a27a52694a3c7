"""What a name map is: rules from the tensors of another program to tfdet's variables."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
"""The tensors of a file by name."""


class Rule(NamedTuple):
    """One line of a name map: the file's name, the variable's path, the layout step between them.

    `{...}` in `target` stands for a number. The same name in `source` stands for the same number, `{...+1}` and
    `{...-1}` for the next and the one before, because some programs count units from 0 and stages from 2.
    """

    source: str
    target: str
    step: Callable[[np.ndarray], np.ndarray]


class NameMap(NamedTuple):
    """How the files of one program and family become the variables of a detector.

    Fields:
        rules: the table.
        prepare: what a file needs before names are compared: folding, joining, older spellings. Arrays -> arrays.
        ignored: names of tensors that are no parameters of a detector; a report does not call them unused.
        pixel_mean, pixel_std: RGB, 0..255, what the weights were trained with; None where nothing is known.
        stride_in_1x1: whether units stride on their first 1x1 (MSRA) or on the 3x3; None where that is no question.
    """

    rules: Sequence[Rule]
    prepare: Callable[[Arrays], Arrays] = dict
    ignored: re.Pattern[str] = re.compile(r"(?!)")
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    stride_in_1x1: bool | None = None


def source_of(path: str, rules: Sequence[Rule]) -> tuple[str, Callable[[np.ndarray], np.ndarray]] | None:
    """The file's name and the layout step for the variable at `path`, or None when no rule names it."""
    for rule in rules:
        match = _pattern(rule.target).fullmatch(path)
        if match:
            return _filled(rule.source, match.groupdict()), rule.step
    return None


def target_of(name: str, rules: Sequence[Rule]) -> str | None:
    """The path of the variable that the tensor `name` belongs to, in a detector large enough, or None."""
    for rule in rules:
        match = _pattern(rule.source).fullmatch(name)
        if not match:
            continue
        numbers = {}
        for group, number in match.groupdict().items():
            label, offset = _label_and_offset(group.replace("_plus_", "+").replace("_minus_", "-"))
            numbers[label] = str(int(number) - offset)
        return _filled(rule.target, numbers)
    return None


_FIELD = re.compile(r"\{(\w+(?:[+-]\d+)?)\}")


def _label_and_offset(field: str) -> tuple[str, int]:
    label, sign, offset = re.fullmatch(r"(\w+?)(?:([+-])(\d+))?", field).groups()
    return label, int(offset or 0) * (-1 if sign == "-" else 1)


def _filled(template: str, numbers: dict[str, str]) -> str:
    def number(match: re.Match[str]) -> str:
        label, offset = _label_and_offset(match[1])
        return str(int(numbers[label]) + offset)

    return _FIELD.sub(number, template)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    def part(match: re.Match[str]) -> str:
        return f"(?P<{match[1].replace('+', '_plus_').replace('-', '_minus_')}>\\d+)"

    pieces, end = [], 0
    for match in _FIELD.finditer(template):
        pieces += [re.escape(template[end : match.start()]), part(match)]
        end = match.end()
    return re.compile("".join([*pieces, re.escape(template[end:])]))
