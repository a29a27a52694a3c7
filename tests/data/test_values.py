import math

import numpy as np
import pytest

from tfdet.data.values import flag, image_number, image_side, number_of_name, real_number, shown, whole_id


@pytest.mark.parametrize("value", [7, "7", 7.0, "7.0", "007", " 7 ", "7.", np.int64(7), np.float32(7)])
def test_one_id_in_all_its_forms(value):
    assert whole_id(value) == 7 and image_number(value) == (7, False)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.5, "no whole number"), (True, "true is no whole"), (None, "null is no whole"), ([1], "no whole number"),
        (-1, "negative"), (-1.0, "negative"), (2**63, "larger than 2"), (1e19, "larger than 2"), (math.nan, "no whole"),
        (math.inf, "no whole number"), (10**400, "larger than 2"), ("", "no whole"), ({}, "no whole number"),
        ("-1", "no whole"), (" -1.0 ", "no whole"), ("1.5", "no whole"), ("1e0", "no whole"), ("+1", "no whole"),
        ("9223372036854775808", "larger than 2"), ("9" * 500, "no whole"),
    ],
)  # fmt: skip
def test_what_is_no_id_is_said(value, reason):
    for read in (whole_id, image_number):
        with pytest.raises(ValueError, match=reason) as caught:
            read(value)
        assert len(str(caught.value)) < 120
    assert whole_id(2**63 - 1) == 2**63 - 1 and whole_id("9223372036854775807") == 2**63 - 1


def test_names_are_numbered_alike_everywhere_and_never_as_ids_are():
    names = ["a.jpg", "1.jpg", "1e3f", "1_0", "-", "１", "\ud800", "1.5.2", "nan"]
    numbers = [image_number(name) for name in names]
    assert all(is_name and 2**52 <= number < 2**53 for number, is_name in numbers)
    assert len(set(numbers)) == len(names)
    assert numbers[0][0] == number_of_name("a.jpg") == 5921629593148028  # the same in every process and release


@pytest.mark.parametrize("value", [None, 0, 0.0, False, "0", "false", "False", " NO ", "", "0.0", np.int64(0)])
def test_flags_that_are_not_set(value):
    assert flag(value) is False


@pytest.mark.parametrize("value", [1, 1.0, True, "1", "true", "TRUE", "yes", np.uint8(1)])
def test_flags_that_are_set(value):
    assert flag(value) is True


@pytest.mark.parametrize("value", [2, -1, 0.5, math.nan, "maybe", "2", [], [0], {}])
def test_what_is_no_flag(value):
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        flag(value)


def test_numbers_and_sizes():
    assert [real_number(value) for value in (3, 2.5, "2.5", " -1e2 ", ".5", np.float32(1))] == [
        3,
        2.5,
        2.5,
        -100,
        0.5,
        1,
    ]
    assert real_number(10**400) == math.inf
    for value in (True, None, "nan", "inf", "1_0", "", "2,5", [1], "１"):
        with pytest.raises(ValueError, match="no number"):
            real_number(value)
    assert [image_side(value) for value in (None, 0, 160, 160.0, "160", "160.0")] == [0, 0, 160, 160, 160, 160]
    for value in (-1, 1.5, True, "x", 2**31, math.nan):
        with pytest.raises(ValueError, match="no number of pixels"):
            image_side(value)


def test_values_are_shown_short_and_without_control_characters():
    assert shown("\x1b[2J\n") == r"'\x1b[2J\n'"
    assert len(shown("x" * 1000)) < 70 and len(shown([1] * 10**5)) < 70 and shown(10**5000) == "a int"
