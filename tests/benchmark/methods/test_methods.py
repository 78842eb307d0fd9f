"""Methods are found by name or file without importing them, and described by what a child says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import MethodError
from benchmark.methods import describe
from benchmark.methods import find as registry
from benchmark.methods.describe import Field, describe_cached
from benchmark.methods.find import (
    MethodLocation,
    builtin_methods,
    check_known_methods,
    entry_point_sources,
    file_source,
)
from benchmark.methods.resolve import resolve

pytestmark = pytest.mark.usefixtures("own_data")

SHIPPED = {"source", "finetune", "frozen-classifier", "lolsgd", "calibrated-alg"}


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
        "distributions": [],
        **changes,
    }


class Asked:
    """A fake child: answers from a table, and counts how often it is asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = {a["name"]: a for a in answers}
        self.names: list[str | None] = []

    def __call__(self, source: MethodLocation) -> Any:
        name = source.name or (source.file.stem if source.file else None)
        self.names.append(name)
        return self.answers[name or ""]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("class Mine: ...\n")
    return path


def distribution(folder: Path, name: str, entry_points: str) -> None:
    """Install a distribution that registers methods, without any code."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry_points}\n")


class TestDiscovery:
    def test_the_shipped_methods_are_listed_and_nothing_is_imported(self) -> None:
        code = (
            "import sys; from benchmark.methods.find import entry_point_sources\n"
            "print(*entry_point_sources())\n"
            "assert not [m for m in sys.modules if m.split('.')[0] in ('torch', 'baselines')]\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) >= SHIPPED

    def test_where_a_method_is(self) -> None:
        source = entry_point_sources()["lolsgd"]
        assert (source.module, source.attribute) == ("baselines.lolsgd", "LOLSGD")
        assert source.origin.startswith("holistic-transfer-bench ")
        assert registry.is_builtin(source)

    def test_another_distribution_adds_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        distribution(tmp_path, "other", "theirs = other.method:Theirs")
        monkeypatch.syspath_prepend(tmp_path)
        source = entry_point_sources()["theirs"]
        assert source.origin == "other 1.0"
        assert not registry.is_builtin(source)

    def test_the_suites_own_begin_with_what_others_are_measured_against(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        distribution(tmp_path, "other", "a-method = other.method:Theirs")
        monkeypatch.syspath_prepend(tmp_path)
        known = entry_point_sources()
        found = builtin_methods()
        assert "a-method" in known
        assert found[:2] == ("source", "finetune")
        assert list(found[2:]) == sorted(set(known) - {"a-method", "source", "finetune"})

    def test_a_clash_names_both(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        distribution(tmp_path, "other", "lolsgd = other.method:Theirs")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MethodError, match="two methods are named 'lolsgd'") as caught:
            entry_point_sources()
        for part in ("other.method:Theirs of other 1.0", "baselines.lolsgd:LOLSGD of holistic"):
            assert part in str(caught.value)

    def test_the_same_thing_twice_is_no_clash(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        distribution(tmp_path, "mirror", "lolsgd = baselines.lolsgd:LOLSGD")
        monkeypatch.syspath_prepend(tmp_path)
        assert entry_point_sources()["lolsgd"].module == "baselines.lolsgd"

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("finetun", "did you mean finetune"), ("LOLSGD", "known: "), ("xyzzy", "known: ")],
    )
    def test_an_unknown_name(self, name: str, hint: str) -> None:
        with pytest.raises(MethodError, match=f"no method '{name}'; {hint}"):
            check_known_methods([name], sorted(SHIPPED))


class TestFileSource:
    def test_a_file(self, plugin: Path) -> None:
        source = file_source(str(plugin))
        assert (source.file, source.attribute, source.name) == (plugin, None, None)

    def test_a_class_of_a_file(self, plugin: Path) -> None:
        assert file_source(f"{plugin}:Mine").attribute == "Mine"

    def test_a_path_with_a_colon(self, tmp_path: Path) -> None:
        path = tmp_path / "a:b.py"
        path.touch()
        assert file_source(str(path)).file == path
        assert file_source(f"{path}:Mine").attribute == "Mine"

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("none.py", "file 'none.py'"),
            ("none.py:Mine", "file 'none.py'"),
            ("", "file ''"),
            ("{folder}", "does not exist"),
            ("{folder}/notes.txt", "notes.txt is not a Python file"),
            ("{plugin}:1", "'1' is not the name of a class"),
            ("{plugin}:", "'' is not the name of a class"),
            ("{plugin}:a b", "'a b' is not the name of a class"),
        ],
    )
    def test_refused(self, plugin: Path, tmp_path: Path, argument: str, message: str) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(MethodError, match=message):
            file_source(argument.format(plugin=plugin, folder=tmp_path))


class TestDescription:
    def test_fields(self, plugin: Path) -> None:
        fields = [
            {"name": "alpha", "type": "float", "default": 1},
            {"name": "steps", "type": "int", "default": 3},
            {"name": "fast", "type": "bool", "default": False},
            {"name": "kind", "type": "str", "default": "a"},
        ]
        found = describe_cached(file_source(str(plugin)), Asked(answer(fields=fields)))
        assert found.name == "mine"
        assert found.configure({}) == {"alpha": 1.0, "steps": 3, "fast": False, "kind": "a"}
        assert type(found.configure({})["alpha"]) is float
        assert found.label(found.configure({})) == "mine"
        config = found.configure({"alpha": "0.5", "fast": "True", "other": "x"})
        assert found.label(config) == "mine(alpha=0.5, fast=True)"

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


class TestResolve:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Callable[..., list[str]]:
        def write(*names: str) -> list[str]:
            for name in names:
                (tmp_path / f"{name}.py").touch()
            return [str(tmp_path / f"{name}.py") for name in names]

        return write

    def test_bases_come_first(self) -> None:
        ask = Asked(answer("calibrated-alg", base="finetune"), answer("finetune"), answer("source"))
        found = resolve(["calibrated-alg", "source"], [], ask)
        assert [m.name for m in found] == ["finetune", "calibrated-alg", "source"]

    def test_a_plugin_is_always_included(self, files: Callable[..., list[str]]) -> None:
        ask = Asked(answer("mine", base="finetune"), answer("finetune"), answer("source"))
        found = resolve(["source"], files("mine"), ask)
        assert [m.name for m in found] == ["source", "finetune", "mine"]

    def test_an_unknown_name_is_told_before_any_child_is_asked(self) -> None:
        ask = Asked()
        with pytest.raises(MethodError, match="did you mean finetune"):
            resolve(["fine-tune"], [], ask)
        assert ask.names == []

    def test_an_unknown_base(self, files: Callable[..., list[str]]) -> None:
        with pytest.raises(MethodError, match="mine declares base='finetun', which is not"):
            resolve([], files("mine"), Asked(answer("mine", base="finetun")))

    def test_a_circle(self, files: Callable[..., list[str]]) -> None:
        ask = Asked(answer("a", base="b"), answer("b", base="a"))
        with pytest.raises(MethodError, match="circular base methods: a -> b -> a"):
            resolve([], files("a", "b"), ask)
        with pytest.raises(MethodError, match="circular base methods: c -> c"):
            resolve([], files("c"), Asked(answer("c", base="c")))

    def test_a_plugin_named_like_a_shipped_method(self, files: Callable[..., list[str]]) -> None:
        (path,) = files("finetune")
        with pytest.raises(MethodError, match="two methods are named 'finetune'") as caught:
            resolve([], [path], Asked(answer("finetune")))
        assert "baselines.finetune" in str(caught.value)
        assert path in str(caught.value)

    def test_a_derived_name_cannot_be_run(self) -> None:
        ask = Asked()
        message = "^best cannot be run: it is derived from finetune's .* use --method finetune$"
        with pytest.raises(MethodError, match=message):
            resolve(["source", "best"], [], ask, {"best": "finetune"})
        assert ask.names == []

    def test_no_method_may_have_a_derived_name(self, files: Callable[..., list[str]]) -> None:
        (path,) = files("best")
        message = f"^{path}: the name best is reserved for results .* from finetune's predictions"
        with pytest.raises(MethodError, match=message):
            resolve(["source"], [path], Asked(answer("best")), {"best": "finetune"})

    def test_two_plugins_of_one_name(self, files: Callable[..., list[str]]) -> None:
        paths = files("a", "b")
        with pytest.raises(MethodError, match="two methods are named 'mine'") as caught:
            resolve([], paths, lambda _: answer("mine"))
        assert all(path in str(caught.value) for path in paths)
