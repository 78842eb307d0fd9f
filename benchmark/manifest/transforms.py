"""The rules of a manifest's ``[transforms]``, which are read long before any image. Loads no torch.

The operations and their settings are those of ``benchmark/images/augment.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmark.errors import ManifestError

Fail = Callable[[str], ManifestError]

MAX_SIDE = 4096
CHANNELS = 3
_SHARE = (0.0, 1.0)
_FACTOR = (1e-3, 1e3)
# Each operation's settings, with the smallest and the largest value of the numbers in it.
OPERATIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "affine": {"degrees": (0.0, 360.0), "translate": _SHARE, "scale": _FACTOR},
    "color-jitter": {
        **dict.fromkeys(("brightness", "contrast", "saturation"), (0.0, 1e3)),
        "hue": (0.0, 0.5),
    },
    "grayscale": {"p": _SHARE},
    "horizontal-flip": {"p": _SHARE},
    "random-resized-crop": {"scale": (1e-6, 1.0), "ratio": _FACTOR, "size": (1, MAX_SIDE)},
}
PAIRS = ("scale", "ratio")  # settings of two numbers, the smaller first
OPTIONAL = ("ratio", "size", "brightness", "contrast", "saturation", "hue")


def check_transforms(table: Mapping[str, Any], fail: Fail) -> None:
    """Check the values of ``[transforms]``.

    Args:
        table: the table.
        fail: gives the error that names the file and a problem.

    Raises:
        ManifestError: a value is missing, of another type, or out of range.
    """
    if "size" in table:
        _check_number("size", table["size"], (1, MAX_SIDE), fail)
    for name in ("mean", "std"):
        values = table.get(name)
        if not isinstance(values, list) or len(values) != CHANNELS or not all(map(_is, values)):
            raise fail(f"transforms.{name} is {values!r}; it must be a list of {CHANNELS} numbers")
    if min(table["std"]) <= 0:
        raise fail(
            f"transforms.std is {table['std']}; pixels are divided by it: give numbers above 0"
        )
    operations = table.get("train", [])
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise fail("transforms.train must be a list of tables, such as {op = 'grayscale', p = 0.1}")
    for number, operation in enumerate(operations):
        _check_operation(f"train[{number}]", operation, fail)


def _check_operation(where: str, operation: Mapping[str, Any], fail: Fail) -> None:
    settings = dict(operation)
    name = settings.pop("op", None)
    if not isinstance(name, str) or name not in OPERATIONS:
        raise fail(f"transforms.{where}.op is {name!r}; known: {', '.join(OPERATIONS)}")
    known = OPERATIONS[name]
    if extra := [key for key in settings if key not in known]:
        raise fail(f"transforms.{where} has {extra[0]!r}; {name} has: {', '.join(known)}")
    for key, bounds in known.items():
        value = settings.get(key)
        if value is None:
            if key not in OPTIONAL:
                raise fail(f"transforms.{where} has no {key}, which {name} needs")
        elif key in PAIRS:
            _check_pair(f"{where}.{key}", value, bounds, fail)
        else:
            _check_number(f"{where}.{key}", value, bounds, fail)


def _check_pair(where: str, value: Any, bounds: tuple[float, float], fail: Fail) -> None:
    low, high = bounds
    is_pair = isinstance(value, list) and len(value) == len(bounds) and all(map(_is, value))
    if not is_pair or not low <= value[0] <= value[1] <= high:
        raise fail(
            f"transforms.{where} is {value!r}; it must be two numbers from {low:g} to {high:g}, "
            "the smaller one first"
        )


def _check_number(where: str, value: Any, bounds: tuple[float, float], fail: Fail) -> None:
    low, high = bounds
    is_whole = isinstance(low, int)
    if not _is(value) or not low <= value <= high or (is_whole and not isinstance(value, int)):
        what = "a whole number" if is_whole else "a number"
        raise fail(f"transforms.{where} is {value!r}; it must be {what} from {low:g} to {high:g}")


def _is(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)
