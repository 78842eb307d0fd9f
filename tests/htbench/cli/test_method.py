"""`htbench method`: what an author sees who starts, tries and checks a method."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmark import checks
from benchmark.checks import CheckFailure
from tests.htbench.command import Htbench

METHOD = '''
from dataclasses import dataclass
import torch
from htbench import Method, NotApplicable, fit

@dataclass(frozen=True)
class Mine(Method):
    """Mine."""

    name = "mine"
    amount: float = 0.1

    def adapt(self, source, target, run):
        print("amount", self.amount, "images", len(target), "steps", run.recipe.steps)
        BODY
'''


@pytest.fixture
def plugin(tmp_path: Path):
    def write(body: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(METHOD.replace("BODY", body))
        return path

    return write


def after_traceback(err: str) -> list[str]:
    """The lines of a traceback; progress may be printed before it on a busy machine."""
    return err.partition("Traceback (most recent call last):\n")[2].splitlines()


@pytest.fixture
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first two checks and one that never applies."""

    def never(_: object) -> None:
        raise checks.SkipTest("never")

    monkeypatch.setattr(checks, "_CHECKS", (*checks._CHECKS[:2], ("never", "never", never)))


class TestTry:
    def test_shows_prints_and_pseudo_accuracies_and_records_nothing(
        self, htbench: Htbench, plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = plugin("return fit(source.copy(), target, run)")
        monkeypatch.chdir(tmp_path)
        status, out, err = htbench("method", "try", file, "--smoke", "--set", "amount=0.3")
        assert status == 0
        assert "nothing is recorded" in err
        # 8 classes of 4 images: half of the classes play missing, one image of each is held out
        assert out.splitlines()[0] == "amount 0.3 images 12 steps 2"
        assert "pseudo-seen" in out
        assert "mine(amount=0.3)" in out
        assert "on 8 held-out training images" in out
        assert "2 steps" in out
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]

    def test_an_exception_ends_in_a_plain_traceback_of_the_authors_code(
        self, htbench: Htbench, plugin
    ) -> None:
        file = plugin("return nowhere")
        status, out, err = htbench("method", "try", file, "--smoke")
        assert status == 1
        lines = after_traceback(err)
        assert lines[0] == f'  File "{file}", line 15, in adapt'
        assert lines[-1] == "NameError: name 'nowhere' is not defined"
        assert out.startswith("amount 0.1")

    def test_half_a_step_is_refused_as_by_a_run(self, htbench: Htbench, plugin) -> None:
        file = plugin("run.total_steps += torch.tensor(3); return source.copy()")
        status, out, _ = htbench("method", "try", file, "--smoke")
        assert status == 0
        assert "; 3 steps, " in out
        file = plugin("run.total_steps += 1.5; return source.copy()")
        status, _, err = htbench("method", "try", file, "--smoke")
        assert status == 1
        assert "run.total_steps is 1.5; it must be a whole number of steps" in err

    def test_an_exception_while_importing_does_too(self, htbench: Htbench, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("x = 1 / 0\n")
        status, _, err = htbench("method", "try", tmp_path / "mine.py", "--smoke")
        assert status == 2
        assert "benchmark/" not in err
        assert err.endswith("ZeroDivisionError: division by zero\n")

    @pytest.mark.parametrize("place", ["while importing", "in adapt"])
    def test_an_exit_of_the_author_is_an_exception_too(
        self, htbench: Htbench, plugin, tmp_path: Path, place: str
    ) -> None:
        file = plugin("import sys; sys.exit(0)")
        if place == "while importing":
            file = tmp_path / "mine.py"
            file.write_text("import sys\nsys.exit(0)\n")
        status, _, err = htbench("method", "try", file, "--smoke")
        assert status == (1 if place == "in adapt" else 2)
        assert f'File "{file}"' in err
        assert err.endswith("SystemExit: 0\n")

    def test_an_authors_folder_may_be_called_like_one_of_a_library(
        self, htbench: Htbench, plugin, tmp_path: Path
    ) -> None:
        file = plugin('return torch.nn.functional.cross_entropy("no tensor", 3)')
        (tmp_path / "utils").mkdir()
        file = file.rename(tmp_path / "utils" / "mine.py")
        status, _, err = htbench("method", "try", file, "--smoke")
        assert status == 1
        assert after_traceback(err)[0] == f'  File "{file}", line 15, in adapt'

    def test_a_file_may_define_the_method_and_its_base(
        self, htbench: Htbench, plugin, tmp_path: Path
    ) -> None:
        file = plugin("return fit(source.copy(), target, run)")
        derived = (
            METHOD.partition("@dataclass")[2].replace("Mine", "Ours").replace('"mine"', '"ours"')
        )
        body = derived.replace("    amount: float = 0.1", '    base = "mine"')
        body = body.replace('"amount", self.amount, ', "").replace("BODY", "return run.base")
        file.write_text(f"{file.read_text()}\n@dataclass{body}")
        words = ("--plugin", f"{file}:Mine", "--smoke")
        status, out, _ = htbench("method", "try", f"{file}:Ours", *words)
        assert status == 0
        assert "\nours " in out

    @pytest.mark.parametrize("is_own", [False, True])
    def test_a_reader_that_goes_away_is_not_the_authors_error(self, plugin, is_own: bool) -> None:
        body = "raise BrokenPipeError" if is_own else "print('x' * 1_000_000, flush=True)"
        reader, writer = os.pipe()
        if not is_own:
            os.close(reader)
        words = [sys.executable, "-m", "htbench", "method", "try", str(plugin(body)), "--smoke"]
        tried = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, check=False, text=True)
        os.close(writer)
        assert tried.returncode == (1 if is_own else 0)
        assert ("BrokenPipeError" in tried.stderr) == is_own

    def test_a_breakpoint_stops_there(self, plugin) -> None:
        words = ["-m", "htbench", "method", "try", str(plugin("breakpoint()")), "--smoke"]
        tried = subprocess.run(
            [sys.executable, *words], input="p len(target)\nq\n", capture_output=True, text=True
        )
        assert tried.returncode == 1
        assert "(Pdb) 12\n" in tried.stdout
        assert "Traceback" not in tried.stderr

    def test_a_method_that_does_not_apply_says_why(self, htbench: Htbench, plugin) -> None:
        file = plugin("raise NotApplicable('too dark')")
        status, out, _ = htbench("method", "try", file, "--smoke")
        assert status == 0
        assert out.splitlines()[-1] == "not applicable: too dark"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("return None", "adapt() returned NoneType; it must return a torch.nn.Module"),
            ("return torch.nn.Flatten()", "the model returned logits of shape (8, 3072)"),
            ("run.notes = None; return source.copy()", "run.notes is of type NoneType"),
            ("run.history = {}; return source.copy()", "run.history is of type dict"),
            ("run.history += [3]; return source.copy()", "a row of run.history is of type int"),
            ("run.history += [{'a': 'b'}]; return source.copy()", "a in run.history is 'b'"),
        ],
    )
    def test_a_broken_contract_is_one_sentence(
        self, htbench: Htbench, plugin, body: str, message: str
    ) -> None:
        status, _, err = htbench("method", "try", plugin(body), "--smoke")
        assert status == 1
        assert message in err
        assert "Traceback" not in err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nope.py"], "htbench: file 'nope.py' does not exist"),
            (["pyproject.toml/x.toml"], "htbench: file 'pyproject.toml/x.toml' does not exist"),
            (["finetun"], "did you mean finetune"),
            (["finetune", "--suite", "icon"], "did you mean icons"),
            (["finetune", "--task", "outline-sold"], "did you mean outline-solid"),
            (["finetune", "--task", ""], "is not in suite icons"),
            (["finetune", "--seed", "-1"], "seed is -1; give a whole number from 0 to 4294967295"),
            (["finetune", "--seed", str(2**64)], "give a whole number from 0 to 4294967295"),
            (["finetune", "--set", "alpha=1"], "no selected method has this field"),
            (["gamma-star"], "gamma-star"),
            (["lora", "--set", "rank=x"], "rank must be a whole number"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_mistake_is_one_sentence(
        self, htbench: Htbench, words: list[str], message: str
    ) -> None:
        status, out, err = htbench("method", "try", *words)
        assert (status, out) == (2, "")
        assert message in err
        assert "Traceback" not in err


@pytest.mark.usefixtures("quick_checks")
class TestCheck:
    def test_prints_a_line_for_each_check(self, htbench: Htbench) -> None:
        status, out, err = htbench("method", "check", "source")
        assert (status, err) == (0, "")
        assert [line[:28].rstrip() for line in out.splitlines()] == [
            "ok              finite-logit",
            "ok              column-order",
            "does not apply  never",
            "2 checks passed, 0 failed, 1",
        ]

    def test_a_failed_check_says_what_was_seen_and_what_to_do(
        self, htbench: Htbench, plugin
    ) -> None:
        file = plugin("source.head.weight.zero_(); return source.copy()")
        status, out, _ = htbench("method", "check", file)
        assert status == 1
        (line,) = [line for line in out.splitlines() if line.startswith("failed")]
        assert "column-order" in line
        assert "Column i of the logits must belong to target.classes[i]" in line
        assert "amount 0.1" not in out  # what the method prints is for `try`

    def test_json_and_a_first_check_that_the_others_need(self, htbench: Htbench, plugin) -> None:
        status, out, _ = htbench("method", "check", plugin("return nowhere"), "--json")
        assert status == 1
        rows = json.loads(out)
        assert [row["state"] for row in rows] == ["failed", "not run", "not run"]
        assert "NameError at mine.py:15 in adapt" in rows[0]["reason"]

    def test_a_method_that_exits_fails(self, htbench: Htbench, plugin) -> None:
        status, out, _ = htbench("method", "check", plugin("raise SystemExit(0)"))
        assert status == 1
        assert "adapt() raised SystemExit at mine.py:15 in adapt" in out

    def test_a_mistake_exits_with_2(self, htbench: Htbench, tmp_path: Path) -> None:
        (tmp_path / "empty.py").write_text("")
        status, out, err = htbench("method", "check", tmp_path / "empty.py")
        assert (status, out) == (2, "")
        assert "the file does not define a method" in err

    @pytest.mark.parametrize("words", [("check",), ("try",)])
    def test_a_file_that_is_not_python_is_named(
        self, htbench: Htbench, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        """These were tracebacks of the benchmark."""
        file = tmp_path / "binary.py"
        file.write_bytes(bytes(range(256)))
        status, out, err = htbench("method", *words, file)
        assert (status, out) == (2, "")
        assert f"cannot load {file}: it, or a file that it imports, is not Python code (" in err
        assert "Traceback" not in err
        (tmp_path / "imports.py").write_text("import binary\n")
        status, out, err = htbench("method", *words, tmp_path / "imports.py")
        assert (status, out) == (2, "")
        assert "imports.py: it, or a file that it imports, is not Python code (" in err
        file.write_text("def adapt(:\n")
        status, out, err = htbench("method", *words, file)
        assert (status, out) == (2, "")
        assert err.startswith(f'  File "{file}", line 1\n')
        assert "SyntaxError: invalid syntax" in err


class TestNew:
    def test_the_project_works_as_it_is(
        self, htbench: Htbench, tmp_path: Path, quick_checks: None
    ) -> None:
        folder = tmp_path / "projects" / "my-method"
        status, out, _ = htbench("method", "new", "my-method", "--out", folder)
        assert status == 0
        assert f"htbench method check {folder}/my_method.py" in out
        names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        assert names == {
            ".github/workflows/test.yml",
            "README.md",
            "my_method.py",
            "pyproject.toml",
            "test_my_method.py",
        }
        texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
        assert not any(re.search("@[A-Z]+@", text) for text in texts)
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["name"] == "my-method"
        points = project["entry-points"]["holistic_transfer.methods"]
        assert points == {"my-method": "my_method:MyMethod"}
        assert htbench("method", "check", folder / "my_method.py")[0] == 0
        assert htbench("method", "try", folder / "my_method.py", "--smoke")[0] == 0

    def test_its_wheel_has_the_method_and_the_entry_point(
        self, htbench: Htbench, tmp_path: Path
    ) -> None:
        folder = tmp_path / "my-method"
        htbench("method", "new", "my-method", "--out", folder)
        code = (
            "from hatchling.build import build_wheel\nimport zipfile\n"
            "names = zipfile.ZipFile('dist/' + build_wheel('dist')).namelist()\nprint(*names)"
        )
        (folder / "dist").mkdir()
        built = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
        )
        names = built.stdout.split()
        assert "my_method.py" in names
        assert "my_method-0.1.0.dist-info/entry_points.txt" in names
        assert "test_my_method.py" not in names

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("My_Method", "such as my-method"),
            ("9lives", "such as lives"),
            ("a--b", "such as a-b"),
            ("../x", "cannot be a method's name"),
            ("", "cannot be a method's name"),
            ("a" * 65, "up to 64"),
            ("random", "a module 'random' exists already"),
            ("class", "a module 'class' exists already"),
            ("benchmark", "a module 'benchmark' exists already"),
            ("numpy", "a module 'numpy' exists already"),
            ("finetune", "there is a method 'finetune' already"),
            ("none", "a class cannot be called None; choose another name, such as none-method"),
            ("holistic-transfer-bench", "a package 'holistic-transfer-bench' is installed"),
        ],
    )
    def test_a_name_that_cannot_be_used_is_refused(
        self, htbench: Htbench, tmp_path: Path, name: str, message: str
    ) -> None:
        status, _, err = htbench("method", "new", name, "--out", tmp_path / "new")
        assert status == 2
        assert message in err
        assert not (tmp_path / "new").exists()

    def test_an_existing_folder_is_refused(self, htbench: Htbench, tmp_path: Path) -> None:
        (tmp_path / "keep").write_text("x")
        status, _, err = htbench("method", "new", "my-method", "--out", tmp_path)
        assert status == 2
        assert f"{tmp_path} exists; choose another folder with --out" in err
        assert (tmp_path / "keep").read_text() == "x"

    def test_a_dash_does_not_become_a_folder(
        self, htbench: Htbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        status, _, err = htbench("method", "new", "my-method", "--out", "-")
        assert status == 2
        assert "'-' does not mean standard output here" in err
        assert not list(tmp_path.iterdir())


def test_a_failure_is_an_assertion() -> None:
    assert issubclass(CheckFailure, AssertionError)
