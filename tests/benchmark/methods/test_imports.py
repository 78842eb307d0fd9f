"""What a file imports and declares is read from its text, without running it."""

from __future__ import annotations

import pytest

from benchmark.methods.imports import (
    MAX_SOURCE_BYTES,
    Import,
    declared_files,
    has_relative_imports,
    imports_of,
)


@pytest.mark.parametrize(
    ("source", "package", "imports"),
    [
        ("import a, b.c as d", "", [Import("a"), Import("b.c")]),
        ("from a.b import c, d", "", [Import("a.b", ("c", "d"))]),
        ("from a import *", "", [Import("a", ("*",))]),
        ("def f():\n    class C:\n        import a", "", [Import("a")]),
        ("try:\n    import a\nexcept ImportError:\n    import b", "", [Import("a"), Import("b")]),
        ("from . import c", "a.b", [Import("a.b", ("c",))]),
        ("from .c import d", "a.b", [Import("a.b.c", ("d",))]),
        ("from ..c import d", "a.b", [Import("a.c", ("d",))]),
        ("from ...c import d", "a.b", []),
        ("from .c import d", "", []),
        ("print('import a')", "", []),
        ("import", "", []),
        ("\0", "", []),
        ("(" * 10_000, "", []),
        ("-" * 100_000 + "1", "", []),
        ("# coding: latin-1\nimport \xe9", "", [Import("\xe9")]),
        ("#" * (MAX_SOURCE_BYTES + 1) + "\nimport a", "", []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_imports(source: str, package: str, imports: list[Import]) -> None:
    assert list(imports_of(source.encode("latin-1"), package)) == imports


def test_whether_a_file_must_be_in_a_package() -> None:
    assert has_relative_imports(b"def f():\n    from . import x")
    assert not has_relative_imports(b"from x import y")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ('files = ("a.json", "b/c.txt")', ("a.json", "b/c.txt")),
        ('files = ["a.json"]', ("a.json",)),
        ('files: ClassVar[tuple[str, ...]] = ("a.json",)', ("a.json",)),
        ('other = files = ("a.json",)', ("a.json",)),
        ('files = "a.json"', ()),
        ("files: tuple", ()),
        ("files = tuple(names)", ()),
        ("files = (1, name)", ()),
        ('other = ("a.json",)', ()),
    ],
)
def test_declared_files(body: str, names: tuple[str, ...]) -> None:
    assert declared_files(f"class Mine(Method):\n    {body}\n".encode()) == names


def test_a_class_without_a_base_declares_nothing() -> None:
    assert declared_files(b"files = ('a',)\nclass Mine:\n    files = ('b',)\n") == ()
