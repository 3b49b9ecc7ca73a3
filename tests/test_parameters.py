"""Parameters of public functions: what is taken, as Python's own, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch

from splinellm import parameters
from splinellm.errors import ConfigurationError


class Device(str, Enum):  # noqa: UP042 (StrEnum writes itself otherwise)
    """Text that is written otherwise than it compares."""

    CPU = "cpu"


def from_one(name: str, value: Any) -> int:
    """Read a number that must be 1 or more."""
    return parameters.whole_from(1, name, value)


@pytest.mark.parametrize(
    ("read", "given", "expected"),
    [
        (parameters.whole, np.int64(3), 3),
        (parameters.whole, None, None),
        (parameters.whole, np.array(3), 3),
        (parameters.whole, torch.tensor(3), 3),
        (from_one, np.uint8(1), 1),
        (parameters.number, np.float32(0.5), 0.5),
        (parameters.number, 2, 2.0),
        (parameters.number, np.array(0.5), 0.5),
        (parameters.flag, np.True_, True),
        (parameters.flag, torch.tensor(data=False), False),
        (parameters.text, np.str_("a"), "a"),
        (parameters.text, np.array("a"), "a"),
        (parameters.text, Device.CPU, "cpu"),
        (parameters.listed, Device.CPU, "cpu"),
        (parameters.listed, np.array("a"), "a"),
        (parameters.listed, {"a": 1}.keys(), ("a",)),
    ],
)
def test_values_become_pythons_own(
    read: Callable[[str, Any], Any], given: Any, expected: Any
) -> None:
    found = read("it", given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (parameters.whole, 1.0, "it is of type float, not a whole number"),
        (parameters.whole, True, "it is of type bool, not a whole number"),
        (from_one, 0, "it is 0; it must be at least 1"),
        (from_one, None, "it is None; it must be at least 1"),
        (parameters.number, "1", "it is of type str, not a number"),
        (parameters.number, False, "it is of type bool, not a number"),
        (parameters.flag, "no", r"it is of type str \(give True or False\)"),
        (parameters.flag, 1, "it is of type int"),
        (parameters.text, b"a", "it is of type bytes, not a string"),
        (parameters.listed, iter("ab"), "it is of type str_"),
        (parameters.listed, np.array(1), r"it is of type int \(give a string or a list\)"),
        (parameters.whole, np.array([3]), "it is of type ndarray, not a whole number"),
        (parameters.whole, np.array(3.0), "it is of type float, not a whole number"),
        (parameters.number, torch.tensor(data=True), "it is of type bool, not a number"),
    ],
)
def test_other_types_are_refused_by_name(
    read: Callable[[str, Any], Any], given: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read("it", given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", "auto"),
        (Device.CPU, "cpu"),
        (0, "cuda:0"),
        (np.int64(1), "cuda:1"),
        (torch.tensor(2), "cuda:2"),
        (torch.device("cpu"), "cpu"),
        (torch.device("cuda", 1), "cuda:1"),
    ],
)
def test_devices_have_names_and_numbers(given: Any, expected: str) -> None:
    assert parameters.device_name(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-1, "device is -1, but devices are counted from 0"),
        (True, "device is of type bool, not a string"),
        (0.0, "device is of type float, not a string"),
        (torch.float32, "device is of type dtype, not a string"),
    ],
)
def test_what_is_no_device_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parameters.device_name(given)
