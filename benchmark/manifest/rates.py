"""The factor on a recipe's learning rates that a search chooses, as a text among its settings."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

RATE = "rate-factor"  # the dash makes it no field's name


def rate_of(settings: Mapping[str, str]) -> float:
    """The factor on the recipe's learning rates, for :meth:`Manifest.with_rate`.

    Raises:
        ValueError, ArithmeticError: it is not a number or a fraction.
    """
    text = settings.get(RATE, "1")
    # Not all as fractions: that of 1e999999999 has a billion digits.
    return float(Fraction(text) if "/" in text else text)


def rate_text(factor: float) -> str:
    """A factor as a decimal number or a fraction, whichever is shorter; no other one has its text.

    For people: 0.5, 1/3, 0.3333.
    """
    texts = (str(factor), str(Fraction(factor).limit_denominator(1000)))
    return min((text for text in texts if rate_of({RATE: text}) == factor), key=len)
