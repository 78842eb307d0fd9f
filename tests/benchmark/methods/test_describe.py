"""What a child says of a method is checked, and cached until a byte of its code changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmark.errors import MethodError
from benchmark.methods import describe
from benchmark.methods.describe import Field, describe_cached, setting_text
from benchmark.methods.find import (
    entry_point_sources,
    file_source,
)
from tests.benchmark.methods.fake_child import Asked, answer

pytestmark = pytest.mark.usefixtures("own_data")


class TestDescription:
    def test_fields(self, plugin: Path) -> None:
        fields = [
            {"name": "alpha", "type": "float", "default": 1},
            {"name": "steps", "type": "int", "default": 3},
            {"name": "fast", "type": "bool", "default": False},
            {"name": "kind", "type": "str", "default": "a"},
        ]
        description = describe_cached(file_source(str(plugin)), Asked(answer(fields=fields)))
        assert description.name == "mine"
        assert description.configure({}) == {"alpha": 1.0, "steps": 3, "fast": False, "kind": "a"}
        assert type(description.configure({})["alpha"]) is float
        assert description.label(description.configure({})) == "mine"
        config = description.configure({"alpha": "0.5", "fast": "True", "other": "x"})
        assert description.label(config) == "mine(alpha=0.5, fast=True)"

    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            ("bool", "true", True),
            ("bool", "FALSE", False),
            ("int", "-3", -3),
            ("float", "1e-3", 0.001),
            ("float", "2", 2.0),
            ("str", "", ""),
            ("str", "1", "1"),
        ],
    )
    def test_parse(self, kind: str, text: str, value: object) -> None:
        parsed = Field("x", kind, 0).parse(text, "mine")
        assert (parsed, type(parsed)) == (value, type(value))
        assert Field("x", kind, 0).parse(setting_text(parsed), "mine") == parsed

    @pytest.mark.parametrize(
        ("kind", "text", "wanted"),
        [
            ("bool", "1", "true or false"),
            ("bool", "yes", "true or false"),
            ("int", "1.0", "a whole number"),
            ("int", "", "a whole number"),
            ("int", "9" * 5000, "a whole number"),
            ("int", str(2**63), "a whole number"),
            ("float", "a", "a finite number"),
            ("float", "nan", "a finite number"),
            ("float", "1e999", "a finite number"),
            ("str", "\x1b[2J", "at most 200 printable"),
        ],
    )
    def test_parse_refused(self, kind: str, text: str, wanted: str) -> None:
        with pytest.raises(MethodError, match=rf"^x='.*': mine\.x must be {wanted}"):
            Field("x", kind, 0).parse(text, "mine")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": "My Method"}, "a method is named 'My Method'"),
            ({"name": ""}, "a method is named ''"),
            ({"name": "a" * 65}, "a method is named 'aaa"),
            ({"name": "../x"}, "a method is named"),
            ({"name": "x\x1b[2J"}, r"a method is named 'x\\x1b\[2J'"),
            ({"name": 3}, "a method is named 3"),
            ({"name": None}, "a method is named None"),
            ({"base": 3}, "base of mine is 3, not a method's name"),
            ({"base": "no name"}, "base of mine is 'no name'"),
            ({"track": "best"}, "track of mine is 'best'"),
            ({"track": None}, "track of mine is None"),
            ({"track": "oracle"}, "asks for the oracle track, which only the benchmark's own"),
            ({"summary": None}, "mine has no summary"),
            ({"fields": None}, "no list of fields"),
            ({"fields": ["alpha"]}, "no list of fields"),
            ({"fields": [{}]}, "a field of mine has no valid name"),
            ({"fields": [{"name": "a", "type": "list", "default": []}]}, "has type 'list'"),
            ({"fields": [{"name": "a", "type": ["int"], "default": 1}]}, "has type"),
            ({"fields": [{"name": "a", "type": "int", "default": "1"}]}, "needs a default"),
            ({"fields": [{"name": "a", "type": "int", "default": True}]}, "needs a default"),
            ({"fields": [{"name": "a", "type": "int", "default": 1.5}]}, "needs a default"),
            ({"fields": [{"name": "a", "type": "bool", "default": 1}]}, "needs a default"),
            ({"fields": [{"name": "a", "type": "str", "default": None}]}, "needs a default"),
            ({"files": None}, "`files` of mine is not a tuple of strings"),
            ({"files": [3]}, "`files` of mine is not a tuple of strings"),
            ({"files": ["/etc/passwd"]}, "'/etc/passwd', which is not a literal in the body"),
            ({"files": ["mine.py"]}, "names 'mine.py', which is not a literal"),
            ({"fields": [{"name": "a", "type": "float", "default": 10**400}]}, "finite number"),
            ({"fields": [{"name": "a", "type": "float", "default": float("nan")}]}, "finite"),
            ({"fields": [{"name": "a", "type": "int", "default": 2**63}]}, "at most 64 bits"),
            ({"fields": [{"name": "a", "type": "str", "default": "\x1b[2J"}]}, "printable"),
            ({"fields": [{"name": "\x1b", "type": "int", "default": 1}]}, "no valid name"),
            ({"fields": [{"name": "a", "type": "int", "default": 1}] * 2}, "two fields"),
            (
                {
                    "fields": [{"name": "a", "type": "float", "default": 1}],
                    "search": {"a": [10**400]},
                },
                "for a, which must be a finite number",
            ),
        ],
    )
    def test_a_hostile_answer(
        self, plugin: Path, own_data: Path, changes: dict[str, object], message: str
    ) -> None:
        with pytest.raises(MethodError, match=message):
            describe_cached(file_source(str(plugin)), lambda *_: {**answer(), **changes})
        assert not list(own_data.glob("methods/*"))  # nothing wrong is kept

    def test_a_child_is_asked_with_the_files_it_may_read(self, plugin: Path) -> None:
        calls = []
        describe_cached(file_source(str(plugin)), lambda _, code: calls.append(code) or answer())
        assert calls[0].files == (str(plugin),)

    @pytest.mark.parametrize("lie", ["/dev/zero", "/etc/shadow", "/nowhere"])
    def test_no_path_of_an_answer_is_opened(self, plugin: Path, lie: str) -> None:
        """The digest of a file that a child names would tell it the file's content."""
        answers = {**answer(), "modules": [lie], "code": {"files": [lie]}}
        description = describe_cached(file_source(str(plugin)), lambda *_: answers)
        assert [name for name, _ in description.code["files"]] == ["mine.py"]

    @pytest.mark.parametrize("words", [None, [], "mine", 3])
    def test_an_answer_that_is_no_object(self, plugin: Path, words: object) -> None:
        with pytest.raises(MethodError, match="is not an object"):
            describe_cached(file_source(str(plugin)), lambda *_: words)

    def test_an_entry_point_must_lead_to_the_method_of_its_name(self) -> None:
        source = entry_point_sources()["finetune"]
        with pytest.raises(
            MethodError, match="entry point 'finetune' resolves to a method named 'other'"
        ):
            describe_cached(source, lambda *_: answer("other"))

    def test_a_builtin_may_be_an_oracle(self) -> None:
        source = entry_point_sources()["finetune"]
        assert (
            describe_cached(source, lambda *_: answer("finetune", track="oracle")).track == "oracle"
        )


class TestCache:
    @pytest.fixture(params=["mine.py", "helper.py", "data.json", "pack/inner.py"])
    def file(self, plugin: Path, request: pytest.FixtureRequest) -> Path:
        """One of a method's own files."""
        text = "import helper\nclass Mine(Base):\n    files = ('data.json',)\n"
        plugin.write_text(f"{text}    def adapt(self):\n        import pack.inner\n")
        (plugin.parent / "pack").mkdir()
        for name in ("helper.py", "data.json", "pack/__init__.py", "pack/inner.py"):
            (plugin.parent / name).write_text("1\n")
        return plugin.parent / str(request.param)

    def test_a_child_is_asked_once(self, plugin: Path, file: Path) -> None:
        ask = Asked(answer(files=["data.json"]))
        source = file_source(str(plugin))
        first = describe_cached(source, ask)
        assert describe_cached(source, ask) == first
        assert ask.names == ["mine"]
        names = ["data.json", "helper.py", "mine.py", "pack/__init__.py", "pack/inner.py"]
        assert [name for name, _ in first.code["files"]] == names

    def test_until_a_byte_changes(self, plugin: Path, file: Path) -> None:
        ask = Asked(answer(files=["data.json"]))
        source = file_source(str(plugin))
        before = describe_cached(source, ask).code
        file.write_text(file.read_text() + "#")
        assert describe_cached(source, ask).code != before
        assert ask.names == ["mine", "mine"]

    def test_or_a_file_appears(self, plugin: Path) -> None:
        plugin.write_text("import helper\n")
        ask = Asked(answer())
        source = file_source(str(plugin))
        before = describe_cached(source, ask).code
        plugin.with_name("helper.py").touch()
        assert describe_cached(source, ask).code != before
        assert ask.names == ["mine", "mine"]

    def test_or_the_contract_changes(self, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = Asked(answer())
        describe_cached(file_source(str(plugin)), ask)
        monkeypatch.setattr(describe, "compute_digest", lambda: "other")
        describe_cached(file_source(str(plugin)), ask)
        assert ask.names == ["mine", "mine"]

    @pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"answer": {}, "code": {}}'])
    def test_a_damaged_entry_is_replaced(self, plugin: Path, own_data: Path, damage: bytes) -> None:
        ask = Asked(answer())
        source = file_source(str(plugin))
        first = describe_cached(source, ask)
        (entry,) = own_data.glob("methods/*.json")
        good = entry.read_bytes()
        entry.write_bytes(damage)
        assert describe_cached(source, ask) == first
        assert entry.read_bytes() == good

    def test_an_entry_with_a_flipped_bit_is_replaced(self, plugin: Path, own_data: Path) -> None:
        ask = Asked(answer())
        source = file_source(str(plugin))
        first = describe_cached(source, ask)
        (entry,) = own_data.glob("methods/*.json")
        good = entry.read_bytes()
        for bit in random.Random(0).sample(range(8 * len(good)), 100):
            data = bytearray(good)
            data[bit // 8] ^= 1 << bit % 8
            entry.write_bytes(data)
            assert describe_cached(source, ask) == first
            assert entry.read_bytes() == good
        entry.unlink()
        entry.mkdir()
        assert describe_cached(source, ask) == first
        assert entry.read_bytes() == good
        assert len(ask.names) == 102
