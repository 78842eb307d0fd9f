"""Forms of names, digests and tracks that several packages check."""

from __future__ import annotations

import re

SHA256 = re.compile(r"[0-9a-f]{64}")
METHOD_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
TRACKS = ("standard", "oracle")  # of methods; see `Method.track`
