"""A method's class is found in its file or module; what is not a method says how to mend it."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.child.code import OwnModules
from benchmark.child.job import ContractError
from benchmark.child.plugin import (
    _check_class,
    _json_default,
    check_code,
    declarations,
    load_method,
)
from benchmark.files import digest_file
from benchmark.jobs import MethodCode
from benchmark.methods.code import collect_code
from benchmark.methods.find import builtin_methods, entry_point_sources, file_source
from htbench.checks import _settings

HEAD = "from dataclasses import dataclass\nfrom htbench import Method\n\n"
ADAPT = "    def adapt(self, source, target, run):\n        return source.copy()\n"


@pytest.fixture(autouse=True)
def forget_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def write(folder: Path, body: str, name: str = "mine.py") -> MethodCode:
    """Write a plugin and make it importable, as a child does."""
    path = folder / name
    path.write_text(HEAD + body)
    code = collect_code(file_source(str(path))).message
    sys.meta_path.insert(0, OwnModules(code.modules))
    return code


class TestLoadMethod:
    def test_the_only_method_of_a_file(self, tmp_path: Path) -> None:
        code = write(tmp_path, f"class Mine(Method):\n    name = 'mine'\n{ADAPT}")
        assert load_method(code).name == "mine"

    def test_imported_methods_do_not_count(self, tmp_path: Path) -> None:
        body = (
            f"from baselines.lolsgd import LOLSGD\nclass Mine(LOLSGD):\n    name = 'mine'\n{ADAPT}"
        )
        assert load_method(write(tmp_path, body)).__name__ == "Mine"

    def test_a_base_class_of_the_file_does_not_count(self, tmp_path: Path) -> None:
        body = f"class Base(Method):\n    pass\n\nclass Mine(Base):\n    name = 'mine'\n{ADAPT}"
        assert load_method(write(tmp_path, body)).__name__ == "Mine"

    def test_a_class_by_name(self, tmp_path: Path) -> None:
        body = "".join(f"class {n}(Method):\n    name = '{n.lower()}'\n{ADAPT}\n" for n in "AB")
        code = write(tmp_path, body)
        assert load_method(replace(code, attribute="B")).name == "b"
        with pytest.raises(
            ContractError, match=r"2 methods \(A, B\); choose one by FILE\.py:Class"
        ):
            load_method(code)

    def test_a_module(self) -> None:
        assert load_method(MethodCode("baselines.finetune", "Finetune")).name == "finetune"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("x = 1\n", "does not define a method; add a subclass of htbench.Method"),
            ("class Mine(Method):\n    name = 'mine'\n", r"Mine does not define adapt\(self"),
        ],
    )
    def test_what_is_not_a_method(self, tmp_path: Path, body: str, message: str) -> None:
        with pytest.raises(ContractError, match=message):
            load_method(write(tmp_path, body))

    def test_an_attribute_that_is_not_a_method(self, tmp_path: Path) -> None:
        code = write(tmp_path, "x = 1\n")
        with pytest.raises(ContractError, match=r"x is not a subclass of htbench\.Method"):
            load_method(replace(code, attribute="x"))


def test_hyper_parameters_need_the_decorator(tmp_path: Path) -> None:
    body = f"class Mine(Method):\n    name = 'mine'\n    alpha: float = 0.5\n{ADAPT}"
    with pytest.raises(ContractError, match=r"Mine has hyper-parameters \(alpha\) but is not"):
        _check_class(load_method(write(tmp_path, body)))
    body = body.replace("class", "@dataclass(frozen=True)\nclass")
    _check_class(load_method(write(tmp_path, body, "decorated.py")))


def test_what_a_method_computes_itself_is_no_hyper_parameter(tmp_path: Path) -> None:
    """A run creates the method with all hyper-parameters, and cannot with such a field."""
    body = f"alpha: float = 0.5\n    half: float = field(init=False, default=0.25)\n{ADAPT}"
    head = "from dataclasses import field\n@dataclass(frozen=True)\nclass Mine(Method):\n"
    method = load_method(write(tmp_path, f"{head}    name = 'mine'\n    {body}"))
    assert [entry["name"] for entry in declarations(method)["fields"]] == ["alpha"]
    assert _settings(method()) == {"alpha": "0.5"}


@pytest.mark.parametrize("default", [True, 3, 0.5, "text"])
def test_defaults_that_json_can_hold(default: object) -> None:
    assert _json_default(default) is default


@pytest.mark.parametrize(
    "default",
    [float("nan"), float("-inf"), None, [1], object(), 2**63, pytest.param(10**5000, id="digits")],
)
def test_defaults_that_json_cannot_hold(default: object) -> None:
    assert _json_default(default) is None


class TestCheckCode:
    def test_only_files_of_the_key_may_be_imported(self, tmp_path: Path) -> None:
        code = write(tmp_path, f"class Mine(Method):\n    name = 'mine'\n{ADAPT}", "keyed.py")
        load_method(code)
        path = tmp_path / "keyed.py"
        modules, elsewhere = {"htbench_plugin_keyed"}, tmp_path / "scratch"
        check_code(modules, [(path.name, digest_file(path))], elsewhere)
        check_code(modules, [], tmp_path)  # the method's own scratch folder
        with pytest.raises(ContractError, match=r"keyed\.py is not among the files"):
            check_code(modules, [("keyed.py", "0" * 64)], elsewhere)
        path.write_text(path.read_text() + "# edited\n")
        with pytest.raises(ContractError, match="edited after the command started"):
            check_code(modules, [(path.name, "0" * 64)], elsewhere)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "    alpha = 0.5\n" + ADAPT,
            r"Mine\.alpha has no annotation.*write alpha: float = \.\.\.",
        ),
        (
            "    flag = True\n" + ADAPT,
            r"flag: bool = \.\.\., or FLAG = \.\.\. for a constant",
        ),
        ("    def adapt(self, source, target):\n        pass\n", r"write adapt\(self, source, tar"),
        ("    uses_features: bool = True\n" + ADAPT, r"write uses_features = \.\.\. without one"),
        ("    ALPHA = 0.5\n    _b = 1\n    kind: ClassVar[str] = 'x'\n" + ADAPT, None),
        ("    track: ClassVar[str] = 'standard'\n" + ADAPT, None),
    ],
)
def test_what_python_accepts_in_silence_is_refused(
    tmp_path: Path, body: str, message: str | None
) -> None:
    head = "from typing import ClassVar\n@dataclass(frozen=True)\nclass Mine(Method):\n"
    method = load_method(write(tmp_path, f"{head}    name = 'mine'\n{body}"))
    with pytest.raises(ContractError, match=message) if message else contextlib.nullcontext():
        declarations(method)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("needs = 'a BatchNorm layer'", r"write a tuple: needs = \('a BatchNorm layer',\)"),
        (
            "needs = (Path,)",
            r"write a tuple of strings, such as needs = \(\"a BatchNorm layer\",\)",
        ),
        ("needs = None", "write a tuple of strings"),
        ("files = 'a.json'", r"write a tuple: files = \('a.json',\)"),
        ("files = (Path('a.json'),)", "write a tuple of strings, such as files = "),
        ("base = LOLSGD", "write its name: base = 'lolsgd'"),
        ("base = Path", "it must be the name of a method"),
        ("track = None", "it must be 'standard'"),
        ("name = Path('mine')", "it must be a string"),
        ("uses_features = 1", "it must be True or False"),
    ],
)
def test_an_attribute_of_another_type_is_refused_with_what_to_write(
    tmp_path: Path, line: str, remedy: str
) -> None:
    """Some are nothing that JSON can hold, and a text would be a tuple of its letters."""
    head = "from pathlib import Path\nfrom baselines.lolsgd import LOLSGD\nclass Mine(Method):\n"
    method = load_method(write(tmp_path, f"{head}    name = 'mine'\n    {line}\n{ADAPT}"))
    attribute = line.partition(" ")[0]
    with pytest.raises(ContractError, match=rf"^Mine\.{attribute} is .*; {remedy}"):
        declarations(method)


def test_a_text_is_not_a_list_of_values_to_try(tmp_path: Path) -> None:
    head = (
        "@dataclass(frozen=True)\nclass Mine(Method):\n    name = 'mine'\n    mode: str = 'fast'\n"
    )
    method = load_method(write(tmp_path, f"{head}    search = {{'mode': ('slow')}}\n{ADAPT}"))
    with pytest.raises(ContractError, match=r"^Mine\.search has the text 'slow' for mode; write a"):
        declarations(method)


def test_a_dataclass_that_is_not_frozen_is_explained(tmp_path: Path) -> None:
    code = write(tmp_path, f"@dataclass\nclass Mine(Method):\n    name = 'mine'\n{ADAPT}")
    with pytest.raises(ContractError, match=r"decorate it with @dataclass\(frozen=True\)"):
        load_method(code)


@pytest.mark.parametrize("name", ["mine", "Mien", "Min"])
def test_a_wrong_class_is_suggested(tmp_path: Path, name: str) -> None:
    code = write(tmp_path, f"class Mine(Method):\n    name = 'mine'\n{ADAPT}")
    with pytest.raises(ContractError, match=rf"no class {name}; did you mean Mine\? it has: Mine"):
        load_method(replace(code, attribute=name))


@pytest.mark.parametrize(
    ("annotation", "is_base"),
    [
        ("", True),
        (" -> nn.Module", True),
        (" -> 'Module'", True),
        (" -> 'Classifier'", True),
        (" -> Classifier", True),
        (" -> Wrapped", False),
        (" -> 'Wrapped'", False),
        (" -> 'NotImported'", True),
    ],
)
def test_a_wrapped_model_in_the_annotation_cannot_be_started_from(
    tmp_path: Path, annotation: str, is_base: bool
) -> None:
    head = (
        "from torch import nn\nfrom torch.nn import Module\nfrom htbench import Classifier\n"
        "class Wrapped(nn.Module):\n    pass\n"
    )
    adapt = ADAPT.replace("run):", f"run){annotation}:")
    method = load_method(write(tmp_path, f"{head}class Mine(Method):\n    name = 'mine'\n{adapt}"))
    assert declarations(method)["is_base"] is is_base


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python evaluates annotations at once")
def test_annotations_may_name_what_only_a_type_checker_imports(tmp_path: Path) -> None:
    head = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import nn\n"
    adapt = ADAPT.replace("run):", "run: nn.Buffer) -> nn.Module:")
    body = f"{head}@dataclass(frozen=True)\nclass Mine(Method):\n    name = 'mine'\n"
    method = load_method(write(tmp_path, f"{body}    alpha: float = 0.5\n{adapt}"))
    assert declarations(method)["is_base"]
    wrong = ADAPT.replace("target, run):", "target: nn.Buffer):")
    other = load_method(write(tmp_path, f"{body}{wrong}", "other.py"))
    with pytest.raises(ContractError, match=r"adapt takes \(self, source, target: nn.Buffer\)"):
        declarations(other)


def test_the_methods_that_wrap_models_say_so() -> None:
    sources = entry_point_sources()
    wrapping = {
        name
        for name in builtin_methods()
        if not declarations(load_method(collect_code(sources[name]).message))["is_base"]
    }
    assert wrapping == {
        *("calibrated-alg", "calibrated-pcv", "gla", "ncm", "ncm-source", "source-ensemble"),
        "lolsgd-source-ensemble",
    }
