"""Which settings a search tries: those of a command line, or those that a method declares."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import product

from benchmark.errors import MethodError, UsageError
from benchmark.files import canonical_json
from benchmark.jobs import Value
from benchmark.manifest.rates import RATE, rate_of
from benchmark.methods.describe import MethodDescription, setting_text

BUDGET = 12  # most trials of a declared space, the same for every method
RATES = ("1", "1/3", "1/10")
MAX_RATE = 1000
MAX_SETTINGS = 1000  # of a command line; a search with this many already takes days


def settings_of(grids: Sequence[str], method: MethodDescription) -> list[dict[str, str]]:
    """Every combination of the values of some grids, in the order given.

    Args:
        grids: texts such as ``weight=0.3,1,3``, or ``rate-factor=1,1/3`` for the learning rates.
        method: the method whose fields they set; every value is checked against its field.

    Raises:
        UsageError: a grid is not of that form, a field or value is repeated (0.5 and 0.50 are the
            same value), or there are more than ``MAX_SETTINGS`` combinations.
        MethodError: the method is an oracle, has no such field, or a value has the wrong type.
    """
    _check_not_oracle(method)
    known = [*(field.name for field in method.fields), RATE]
    values: dict[str, list[str]] = {}
    for text in grids:
        name, equals, listed = text.partition("=")
        options = [option.strip() for option in listed.split(",")]
        if not equals or not all(options):
            raise UsageError(f"--grid {text}: write it as field=a,b,c")
        if name not in known:
            raise MethodError(
                f"--grid {name}: {method.name} has no such field; fields: {', '.join(known)}"
            )
        if name in values:
            raise UsageError(f"--grid {name} is repeated; write all its values in one --grid")
        _check_distinct(name, options, method)
        values[name] = options
    count = math.prod(map(len, values.values()))
    if count > MAX_SETTINGS:
        raise UsageError(
            f"--grid: {count:,} combinations are more than the {MAX_SETTINGS:,} that one search "
            "may try; give fewer values"
        )
    return _combinations(values)


def declared_settings(method: MethodDescription) -> list[dict[str, str]]:
    """The settings of a method's declared search space, at most ``BUDGET``.

    The space has the defaults, which come first, and every combination of the values that the
    method declares and of ``RATES``. Of a larger one, those whose SHA-256 is smallest are kept.

    Raises:
        MethodError: the method is an oracle, declares no space, or a value has the wrong type.
    """
    _check_not_oracle(method)
    if method.search is None:
        raise MethodError(
            f"{method.name} declares no search space; name the values to try with --grid"
        )
    values = {name: [setting_text(v) for v in tried] for name, tried in method.search.items()}
    space = _combinations({**values, RATE: list(RATES)})
    defaults = {f.name: setting_text(f.default) for f in method.fields if f.name in values}
    first = {**defaults, RATE: RATES[0]}

    def rank(settings: Mapping[str, str]) -> bytes:
        return hashlib.sha256(canonical_json([method.name, dict(settings)])).digest()

    space = [first, *(settings for settings in space if settings != first)]
    if len(space) > BUDGET:
        others = sorted(space[1:], key=rank)[: BUDGET - 1]
        space = [first, *sorted(others, key=space.index)]
    return _checked(space, method)


def fields_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that are fields of the method."""
    return {name: value for name, value in settings.items() if name != RATE}


def _check_not_oracle(method: MethodDescription) -> None:
    if method.track == "oracle":
        raise MethodError(
            f"{method.name} cannot be tuned: it is an oracle, and tuning does not use the "
            "missing-class data that it needs"
        )


def _combinations(values: Mapping[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _checked(space: list[dict[str, str]], method: MethodDescription) -> list[dict[str, str]]:
    """The settings, each of which is an error before anything runs if it has a wrong value."""
    for settings in space:
        _values_of(settings, method)
    return space


def _check_distinct(name: str, options: Sequence[str], method: MethodDescription) -> None:
    """Refuse two texts of the same value, such as 0.5 and 0.50: its runs would count as two."""
    first: dict[Value, str] = {}
    for option in options:
        value = _values_of({name: option}, method)[name]
        if value in first:
            same = f"{option!r} and {first[value]!r} are the same value"
            reason = f"{option!r} is repeated" if option == first[value] else same
            raise UsageError(f"--grid {name}: {reason}")
        first[value] = option


def _values_of(settings: Mapping[str, str], method: MethodDescription) -> dict[str, Value]:
    """The values of all fields of the method, and of ``RATE``, with some settings."""
    try:
        factor = rate_of(settings)
    except (ValueError, ArithmeticError):  # not a number, a division by 0, or too large
        factor = 0.0
    if not 0 < factor <= MAX_RATE:
        raise UsageError(
            f"{RATE}={settings[RATE]}: write a positive number of at most {MAX_RATE}, such as "
            "0.1 or 1/3"
        )
    return {**method.configure(fields_of(settings)), RATE: factor}
