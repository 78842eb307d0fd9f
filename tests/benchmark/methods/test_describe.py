"""What a child says of a method is checked, and cached until a byte of its code changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import MethodError
from benchmark.methods import describe
from benchmark.methods.describe import Field, describe_cached
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
            ({"track": "oracle"}, "asks for the oracle track, which only the suite's own"),
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
            ({"files": None}, "lists no files and distributions"),
            ({"files": [3]}, "lists no files and distributions"),
            ({"distributions": "torch"}, "lists no files and distributions"),
            ({"files": ["/nowhere/helper.py"]}, "cannot read its file '/nowhere/helper.py'"),
            ({"files": ["/"]}, "cannot read its file '/'"),
            ({"files": ["/" + "a" * 5000]}, "cannot read its file"),
            ({"files": ["a\0b"]}, "cannot read its file"),
            ({"distributions": [""]}, "'' of a method is not installed"),
            ({"fields": [{"name": "a", "type": "float", "default": 10**400}]}, "finite number"),
            ({"fields": [{"name": "a", "type": "float", "default": float("nan")}]}, "finite"),
            ({"fields": [{"name": "a", "type": "int", "default": 2**63}]}, "at most 64 bits"),
            ({"fields": [{"name": "a", "type": "str", "default": "\x1b[2J"}]}, "printable"),
            ({"fields": [{"name": "\x1b", "type": "int", "default": 1}]}, "no valid name"),
            ({"fields": [{"name": "a", "type": "int", "default": 1}] * 2}, "two fields"),
            ({"distributions": ["no-such-thing"]}, "'no-such-thing' of a method is not installed"),
        ],
    )
    def test_a_hostile_answer(
        self, plugin: Path, own_data: Path, changes: dict[str, object], message: str
    ) -> None:
        with pytest.raises(MethodError, match=message):
            describe_cached(file_source(str(plugin)), lambda source: {**answer(), **changes})
        assert not list(own_data.glob("methods/*"))  # nothing wrong is kept

    def test_more_code_than_allowed(self, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = Asked(answer(files=[str(plugin)]))
        monkeypatch.setattr(describe, "MAX_CODE_BYTES", 10)
        with pytest.raises(MethodError, match="loads more code than 2000 files of 10 bytes"):
            describe_cached(file_source(str(plugin)), ask)
        monkeypatch.undo()
        monkeypatch.setattr(describe, "MAX_CODE_FILES", 0)
        with pytest.raises(MethodError, match="loads more code than 0 files"):
            describe_cached(file_source(str(plugin)), ask)

    def test_a_plugin_that_leaves_itself_out_counts_all_the_same(
        self, plugin: Path, own_data: Path
    ) -> None:
        ask = Asked(answer(files=[]))
        before = describe_cached(file_source(str(plugin)), ask)
        plugin.write_text("class Mine: pass\n")
        assert describe_cached(file_source(str(plugin)), ask).code != before.code
        assert ask.names == ["mine", "mine"]

    @pytest.mark.parametrize("words", [None, [], "mine", 3])
    def test_an_answer_that_is_no_object(self, plugin: Path, words: object) -> None:
        with pytest.raises(MethodError, match="is not an object"):
            describe_cached(file_source(str(plugin)), lambda source: words)

    def test_an_entry_point_must_lead_to_the_method_of_its_name(self) -> None:
        source = entry_point_sources()["finetune"]
        with pytest.raises(
            MethodError, match="entry point 'finetune' resolves to a method named 'other'"
        ):
            describe_cached(source, lambda _: answer("other"))

    def test_a_builtin_may_be_an_oracle(self) -> None:
        source = entry_point_sources()["finetune"]
        assert (
            describe_cached(source, lambda _: answer("finetune", track="oracle")).track == "oracle"
        )


class TestCache:
    @pytest.fixture
    def helper(self, tmp_path: Path) -> Path:
        path = tmp_path / "helper.py"
        path.write_text("x = 1\n")
        return path

    def test_a_child_is_asked_once(self, plugin: Path, helper: Path) -> None:
        ask = Asked(answer(files=[str(plugin), str(helper)], distributions=["click"]))
        source = file_source(str(plugin))
        first = describe_cached(source, ask)
        assert describe_cached(source, ask) == first
        assert ask.names == ["mine"]
        assert [name for name, _ in first.code["files"]] == ["helper.py", "mine.py"]
        assert first.code["distributions"][0][0] == "click"

    @pytest.mark.parametrize("which", ["plugin", "helper"])
    def test_until_a_byte_changes(self, plugin: Path, helper: Path, which: str) -> None:
        ask = Asked(answer(files=[str(plugin), str(helper)]))
        source = file_source(str(plugin))
        before = describe_cached(source, ask).code
        changed = plugin if which == "plugin" else helper
        changed.write_text(changed.read_text() + "#")
        assert describe_cached(source, ask).code != before
        assert ask.names == ["mine", "mine"]

    def test_or_a_file_is_gone(self, plugin: Path, helper: Path) -> None:
        ask = Asked(answer(files=[str(plugin), str(helper)]))
        source = file_source(str(plugin))
        describe_cached(source, ask)
        helper.unlink()
        ask.answers["mine"] = answer(files=[str(plugin)])
        assert len(describe_cached(source, ask).code["files"]) == 1

    def test_or_the_contract_changes(self, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = Asked(answer(files=[str(plugin)]))
        describe_cached(file_source(str(plugin)), ask)
        monkeypatch.setattr(describe, "compute_digest", lambda: "other")
        describe_cached(file_source(str(plugin)), ask)
        assert ask.names == ["mine", "mine"]

    @pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"answer": {}, "code": {}}'])
    def test_a_damaged_entry_is_replaced(self, plugin: Path, own_data: Path, damage: bytes) -> None:
        ask = Asked(answer(files=[str(plugin)]))
        source = file_source(str(plugin))
        first = describe_cached(source, ask)
        (entry,) = own_data.glob("methods/*.json")
        good = entry.read_bytes()
        entry.write_bytes(damage)
        assert describe_cached(source, ask) == first
        assert entry.read_bytes() == good
