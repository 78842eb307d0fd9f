"""A child that describes methods from a table."""

from __future__ import annotations

from typing import Any

from benchmark.jobs import MethodCode
from benchmark.methods.find import MethodLocation


def answer(name: str = "mine", **changes: object) -> dict[str, Any]:
    """What a child says of a method, as ``child/plugin.py`` writes it."""
    return {
        "name": name,
        "summary": "A method.",
        "base": None,
        "track": "standard",
        "uses_features": False,
        "fields": [],
        "files": [],
        **changes,
    }


class Asked:
    """A fake child: answers from a table, and counts how often it is asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = {a["name"]: a for a in answers}
        self.names: list[str | None] = []

    def __call__(self, source: MethodLocation, code: MethodCode) -> Any:
        name = source.name or (source.file.stem if source.file else None)
        self.names.append(name)
        return self.answers[name or ""]
