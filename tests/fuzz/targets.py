"""The parsers of bytes that others wrote, by name.

To add one, add a function that gives its reader, one that gives valid files, and an entry of
``TARGETS`` to the file of its subject.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import channel, data, manifests, results
from tests.fuzz.target import Target

TARGETS: Mapping[str, Target] = {
    **manifests.TARGETS,
    **results.TARGETS,
    **data.TARGETS,
    **channel.TARGETS,
}
