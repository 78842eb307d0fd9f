"""What the page of a submitted method says of its origin: who submitted it, and who repeated it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from leaderboard.accepted import SUBMITTED, VERIFIED, Accepted
from leaderboard.render.cells import signed
from leaderboard.submission.folder import NONE

AREAS = ("overall", "seen", "missing")  # the order in which accuracies are named


@dataclass(frozen=True)
class Repeated:
    """A run that somebody repeated: its seed, with a remark, and the result."""

    task: str
    seed: str
    outcome: str
    difference: str


@dataclass(frozen=True)
class Provenance:
    """The origin of a submitted method.

    Attributes:
        state: ``submitted`` or ``verified``.
        authors: their names.
        addresses: ``paper`` and ``code``, as far as there are any, each with its link or None.
        licence: of the code.
        accepted: when, by whom and why its rows were accepted; ``verified``: when and by whom runs
            were repeated, and how they were chosen; empty if none were.
        machine: what the machine reported that repeated them.
        repeated: the repeated runs.
    """

    state: str
    authors: str
    addresses: Mapping[str, tuple[str, str | None]]
    licence: str
    accepted: str
    verified: str
    machine: str
    repeated: tuple[Repeated, ...]


def provenance_of(submission: Accepted) -> Provenance:
    """What a page shows of an accepted submission; its texts are still to be escaped."""
    entry, form, verification = submission.entry, submission.form, submission.verification
    accepted = f"{entry.when[:10]} by {entry.by}"
    if verification is None:
        verified, machine, cells = "", "", []
    else:
        verified = f"{verification['when'][:10]} by {verification['by']}"
        if chosen := verification.get("chosen"):
            verified += f"; runs chosen {chosen}"
        facts = verification.get("machine") or {}
        machine = ", ".join(f"{name}: {value}" for name, value in facts.items())
        cells = verification["cells"]
    return Provenance(
        state=SUBMITTED if verification is None else VERIFIED,
        authors=", ".join(form["authors"]),
        addresses={
            name: (form[name], _link(form[name]))
            for name in ("paper", "code")
            if form[name] != NONE
        },
        licence=form["licence"],
        accepted=f"{accepted}: {entry.why}" if entry.why else accepted,
        verified=verified,
        machine=machine,
        repeated=tuple(map(_repeated, cells)),
    )


def _link(address: str) -> str | None:
    """The address if a browser may open it: other schemes can run code."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return address if parts.scheme in ("http", "https") and parts.netloc else None


def _repeated(cell: Mapping[str, Any]) -> Repeated:
    seed = str(cell["seed"])
    difference = cell.get("difference") or {}
    return Repeated(
        task=cell["task"],
        seed=seed if cell.get("announced", True) else f"{seed}, not announced",
        outcome=cell["outcome"],
        difference=", ".join(
            f"{name} {signed(difference[name], 2)}" for name in AREAS if name in difference
        ),
    )
