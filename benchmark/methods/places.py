"""Where in a method's own files an exception was raised, read from the text of its traceback."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_FRAME = re.compile(r'^  File "([^"\n]{1,4096})", line (\d{1,9}), in ([^\n]{1,200})$', re.MULTILINE)


def place_in(traceback: str, files: Iterable[Path]) -> str | None:
    """The last line of some files that a traceback passes, such as ``my_method.py:14 in adapt``.

    Args:
        traceback: as Python formats it; it may be cut, and it may come from a method.
        files: paths of the files, as a run imports them. A name is not enough: torch and Python
            have files such as ``hub.py`` and ``pool.py``, too.
    """
    paths = set(map(str, files))
    own = [match for match in _FRAME.finditer(traceback) if match[1] in paths]
    if not own:
        return None
    path, line, function = own[-1].groups()
    return f"{path.rpartition('/')[2]}:{line} in {function}"
