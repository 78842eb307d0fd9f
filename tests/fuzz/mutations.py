"""Damage valid files: flipped bits, cuts, splices, repeated lines and keys, and huge values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

MOST = 6  # mutations of one file
MOST_BYTES = 1 << 18  # a longer file is cut
EDGES = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
# What replaces a value of JSON, TOML or CSV, or is put between two bytes.
VALUES = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"-0.0", b"1e-400", b"NaN", b"Infinity", b"0x7f"),
    *(b"9" * 25, b"9" * 5000, b'"9"', b'""', b'"\\ud800"', b'"\\u0000"', b'"\x00"', b'"\x1b[31m"'),
    *(b"[]", b"{}", b"[[]]", b"[" * 2000, b'{"a":' * 2000, b'"' + b"x" * 70_000 + b'"', b"'", b","),
    *(b'"../../etc/passwd"', b'"/"', b'"C:\\\\x"', b'"\xe2\x80\xae"', b'"\xff"', b"1979-05-27"),
    *(b"inf", b"nan", b"2013-02-30 25:61:61", b"\\", b"=", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf"),
)
_VALUE = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|\[[^\[\]]*\]|\{[^{}]*\}')


def mutated(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of some valid files, with a few mutations."""
    content = random.choice(seeds)
    for _ in range(random.randint(1, MOST)):
        content = random.choice(_MUTATIONS)(random, content, seeds)[:MOST_BYTES]
    return content


def _place(random: Random, content: bytes) -> int:
    """A position, often near an end: that is where headers and footers are."""
    near = min(random.choice([len(content), 64, 512]), len(content))
    at = random.randrange(near) if near else 0
    return max(0, len(content) - 1 - at) if random.random() < 0.5 else at


def _flip(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _place(random, content)
    flipped = bytes(byte ^ 1 << random.randrange(8) for byte in content[at : at + 1])
    return content[:at] + flipped + content[at + 1 :]


def _number(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at, size = _place(random, content), random.choice([1, 2, 4, 8])
    value = random.choice(EDGES) % 256**size
    number = value.to_bytes(size, random.choice(["little", "big"]))
    return content[:at] + number + content[at + size :]


def _bytes(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at, new = _place(random, content), random.randbytes(random.randint(1, 16))
    return content[:at] + new + content[at + random.choice([0, len(new)]) :]


def _cut(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    return content[: _place(random, content)]


def _remove(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    begin, end = sorted((_place(random, content), _place(random, content)))
    return content[:begin] + content[end:]


def _repeat(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    begin, end = sorted((_place(random, content), _place(random, content)))
    return content[:end] + content[begin:end] * random.choice([1, 2, 50]) + content[end:]


def _splice(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds)
    return content[: _place(random, content)] + other[_place(random, other) :]


def _lines(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """Remove a line, or copy it: a key that is there twice, or in another table."""
    lines = content.split(b"\n")
    line = random.choice(lines)
    lines.insert(random.randint(0, len(lines)), line)
    if random.random() < 0.5:
        lines.remove(line)
    return b"\n".join(lines)


def _value(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """Replace a value of a text."""
    matches = list(_VALUE.finditer(content))
    if not matches:
        return _insert(random, content, seeds)
    match, other = random.choice(matches), random.choice(matches)
    value = random.choice([*VALUES, other[0], match[0] + b"," + match[0]])
    return content[: match.start()] + value + content[match.end() :]


def _insert(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _place(random, content)
    return content[:at] + random.choice(VALUES) + content[at:]


_MUTATIONS: Sequence[Callable[[Random, bytes, Sequence[bytes]], bytes]] = (
    *(_flip, _number, _bytes, _cut, _remove, _repeat, _splice, _lines, _insert),
    *(_value, _value),  # what is left is often still a text that parses
)
