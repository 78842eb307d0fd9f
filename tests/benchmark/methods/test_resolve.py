"""The methods of a command: those it names, the plugins, and the bases of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import MethodError
from benchmark.methods.resolve import resolve
from tests.benchmark.methods.fake_child import Asked, answer

pytestmark = pytest.mark.usefixtures("own_data")


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
        methods_in_order = resolve(["calibrated-alg", "source"], [], ask)
        assert [m.name for m in methods_in_order] == ["finetune", "calibrated-alg", "source"]

    def test_a_plugin_is_always_included(self, files: Callable[..., list[str]]) -> None:
        ask = Asked(answer("mine", base="finetune"), answer("finetune"), answer("source"))
        methods_in_order = resolve(["source"], files("mine"), ask)
        assert [m.name for m in methods_in_order] == ["source", "finetune", "mine"]

    def test_a_plugin_that_is_named_twice_is_included_once(
        self, files: Callable[..., list[str]]
    ) -> None:
        (path,) = files("mine")
        again = str(Path(path).parent / ".." / Path(path).parent.name / "mine.py")
        (mine,) = resolve([], [path, path, again], Asked(answer("mine")))
        assert mine.name == "mine"

    def test_an_unknown_name_is_told_before_any_child_is_asked(self) -> None:
        ask = Asked()
        with pytest.raises(MethodError, match="did you mean finetune"):
            resolve(["fine-tune"], [], ask)
        assert ask.names == []

    def test_an_unknown_base(self, files: Callable[..., list[str]]) -> None:
        with pytest.raises(MethodError, match="mine declares base='finetun', which is not"):
            resolve([], files("mine"), Asked(answer("mine", base="finetun")))

    def test_a_base_that_cannot_be_started_from(self, files: Callable[..., list[str]]) -> None:
        gla = answer("gla", base="finetune", is_base=False)
        ask = Asked(answer("mine", base="gla"), gla, answer("finetune"))
        with pytest.raises(MethodError, match="mine starts from gla, whose adapted model is not"):
            resolve([], files("mine"), ask)

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
            resolve([], paths, lambda *_: answer("mine"))
        assert all(path in str(caught.value) for path in paths)

    def test_a_file_and_its_class_are_one_plugin_too_many(
        self, files: Callable[..., list[str]]
    ) -> None:
        (path,) = files("a")
        with pytest.raises(MethodError, match=f"'mine' of {path}; leave one out, or rename one if"):
            resolve([], [path, f"{path}:Mine"], lambda *_: answer("mine"))
