"""Where in a method's own files an exception was raised, read from the text of its traceback."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FRAME = re.compile(r'^  File "([^"\n]{1,4096})", line (\d{1,9}), in ([^\n]{1,200})$', re.MULTILINE)


def place_in(traceback: str, files: Iterable[str]) -> str | None:
    """The last line of some files that a traceback passes, such as ``my_method.py:14 in adapt``.

    Args:
        traceback: as Python formats it; it may be cut, and it may come from a method.
        files: names of the files, relative to the folder of their top-level package.
    """
    endings = tuple(f"/{name}" for name in files)
    if not endings:
        return None
    own = [match for match in _FRAME.finditer(traceback) if match[1].endswith(endings)]
    if not own:
        return None
    path, line, function = own[-1].groups()
    return f"{path.rpartition('/')[2]}:{line} in {function}"
