"""Methods are found by entry point or file, and nothing is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.errors import MethodError
from benchmark.methods import find as registry
from benchmark.methods.find import (
    builtin_methods,
    check_known_methods,
    entry_point_sources,
    file_source,
)

pytestmark = pytest.mark.usefixtures("own_data")

SHIPPED = {"source", "finetune", "frozen-classifier", "lolsgd", "calibrated-alg"}


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
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        assert set(process.stdout.split()) >= SHIPPED

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
        sources = entry_point_sources()
        builtin = builtin_methods()
        assert "a-method" in sources
        assert builtin[:2] == ("source", "finetune")
        assert list(builtin[2:]) == sorted(set(sources) - {"a-method", "source", "finetune"})

    def test_a_clash_names_both(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        distribution(tmp_path, "other", "lolsgd = other.method:Theirs")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MethodError, match="two methods are named 'lolsgd'") as caught:
            entry_point_sources()
        for part in ("other.method:Theirs of other 1.0", "baselines.lolsgd:LOLSGD of holistic"):
            assert part in str(caught.value)

    @pytest.mark.parametrize("value", ["my-package.method:Theirs", "other.method:"])
    def test_an_entry_point_of_another_form(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        distribution(tmp_path, "other", f"theirs = {value}")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MethodError, match=f"^other 1.0: its entry point theirs = {value} is"):
            entry_point_sources()

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

    @pytest.mark.parametrize(
        ("label", "words"),
        [
            ("finetune(alpha=0.3)", "--method finetune --set alpha=0.3"),
            ("lolsgd(rounds=2, left_out=0.3)", "--method lolsgd --set rounds=2 --set left_out=0.3"),
            ("finetune(tuned)", "--method finetune"),
        ],
    )
    def test_the_label_of_a_row(self, label: str, words: str) -> None:
        with pytest.raises(MethodError) as error:
            check_known_methods([label], sorted(SHIPPED))
        assert str(error.value).endswith(f" its settings with --set: {words}")

    def test_the_name_of_a_file_in_this_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "half_way.py").touch()
        monkeypatch.chdir(tmp_path)
        for name in ("half-way", "half_way"):
            with pytest.raises(MethodError, match=r"the one in half_way.py, use --plugin half_way"):
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
            ("{folder}", "is not a regular file"),
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
