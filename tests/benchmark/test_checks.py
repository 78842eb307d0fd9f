"""Each check of a method finds the method that breaks its rule, and no other check does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import check_cases, check_layer
from benchmark.check_cases import base_case, icons_slice, plain_case
from benchmark.check_layer import LayeredRun
from benchmark.check_lock import LockedRun
from benchmark.check_subject import CheckFailure, Subject
from benchmark.checks import MAX_MEMORY, MAX_SECONDS, checks_of
from benchmark.errors import UsageError
from benchmark.in_process import load
from benchmark.methods.find import builtin_methods
from benchmark.networks.build import Classifier
from benchmark.torch_state import torch_state
from htbench import Method, NotApplicable, fit, method_checks
from htbench.checks import checks_of_argument

LOCKED = {"in-the-lock", "same-in-the-lock", "same-in-a-layer", "time-and-memory"}


class Changed(nn.Module):
    """A model whose logits go through a function of them and of the number of calls so far."""

    def __init__(self, model: nn.Module, change: Callable[[Any, int], Any]) -> None:
        super().__init__()
        self.model, self.change, self.calls = model, change, 0

    def forward(self, images: Any) -> Any:
        self.calls += 1
        return self.change(self.model(images), self.calls)


def changed(change: Callable[[Any, int], Any]) -> Callable[..., nn.Module]:
    return lambda source, target, run: Changed(source.copy(), change)


def refusing(is_unusual: Callable[[Any, Any], bool]) -> Callable[..., nn.Module]:
    def adapt(source, target, run):
        if is_unusual(source, target):
            raise RuntimeError("cannot do that")
        return source.copy()

    return adapt


def draw_without_seed(source, target, run):
    model = source.copy()
    with torch.no_grad():
        model.head.bias += (
            0.01
            * torch.from_numpy(np.random.default_rng().normal(size=len(model.head.bias))).float()
        )
    return model


def seed_the_order_itself(source, target, run):
    torch.rand(1, generator=run.stream("method"))
    model = source.copy()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.001)
    rows = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))[:8]
    model(run.transforms.evaluate(target.images[rows])).logsumexp(1).mean().backward()
    optimizer.step()
    return model


def train_the_source(source, target, run):
    model = source.copy()
    source.head.weight *= 1.1
    return model


def leave_a_hook(source, target, run):
    nn.modules.module.register_module_forward_hook(lambda *_: None)
    torch.manual_seed(5)
    return source.copy()


def has_batch_norm(source, _):
    return any(isinstance(module, nn.BatchNorm2d) for module in source.backbone.modules())


BROKEN = {
    "column-order": changed(lambda z, _: z.flip(1)),
    "same-seed": draw_without_seed,
    "other-seed": seed_the_order_itself,
    "batch-mates": changed(lambda z, _: z - z.mean(0, keepdim=True)),
    "order": changed(lambda z, calls: z + 0.1 * calls),
    "source-unchanged": train_the_source,
    "torch-state-unchanged": leave_a_hook,
    "one-seen-class": refusing(lambda _, target: target.seen.sum() == 1),
    "class-of-one-image": refusing(
        lambda _, target: 1 in target.labels.unique(return_counts=True)[1]
    ),
    "last-batch-of-one": refusing(lambda _, target: len(target) % 8 == 1),
    "no-batch-norm": refusing(lambda *arguments: not has_batch_norm(*arguments)),
    "many-classes": refusing(lambda _, target: len(target.classes) > 300),
}


@dataclass(frozen=True)
class Given(Method):
    """A method whose ``adapt`` is given."""

    name = "given"
    work: Any = None

    def adapt(self, source, target, run):
        return self.work(source, target, run)


def no_lock() -> Any:
    raise UsageError("there is no lock here")


ZEROS = np.zeros((4, 65), np.float32)


def subject_of(adapt: Callable[..., Any]) -> Subject:
    return Subject([Given(adapt)], no_lock)


def results(subject: Subject) -> dict[str, str]:
    """What each check says: nothing, or why the method fails it or why it does not apply."""
    said = {}
    for check in checks_of(subject):
        try:
            check()
        except CheckFailure as failure:
            said[check.name] = f"failed: {failure}"
        except SkipTest as reason:
            said[check.name] = f"does not apply: {reason}"
    return said


def failed(said: dict[str, str]) -> set[str]:
    return {name for name, text in said.items() if text.startswith("failed")}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_method_fails_exactly_its_check(check: str) -> None:
    said = results(subject_of(BROKEN[check]))
    assert failed(said) == {check}
    assert {said[name] for name in LOCKED} == {"does not apply: there is no lock here"}


def test_every_check_is_tested() -> None:
    names = {check.name for check in checks_of(subject_of(BROKEN["order"]))}
    assert names == {"finite-logits", *BROKEN, *LOCKED}


@pytest.mark.parametrize("change", [nn.utils.parametrizations.weight_norm, nn.Module.double])
def test_the_source_may_not_change_in_form_either(change) -> None:
    subject = subject_of(lambda source, *_: (source.copy(), change(source.head))[0])
    checks = {check.name: check for check in checks_of(subject)}
    with pytest.raises(CheckFailure, match=r"changed the source model: head\."):
        checks["source-unchanged"]()


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        (changed(lambda z, _: z / 0 * 0), "NaN or infinite logits"),
        (changed(lambda z, _: (z, z)), "gives a tuple of 2 instead of a tensor"),
        (changed(lambda z, _: z[:, :3]), "but the shape must be"),
        (lambda *_: None, "adapt() returned NoneType; it must return a torch.nn.Module"),
        (lambda *_: nowhere, "adapt() raised NameError at test_checks.py:"),  # noqa: F821
    ],
)
def test_the_first_check_says_what_adapt_returned_or_where_it_failed(adapt, words: str) -> None:
    with pytest.raises(CheckFailure) as failure:
        next(checks_of(subject_of(adapt)))()
    assert words in str(failure.value)


def test_a_method_that_does_not_apply_is_skipped() -> None:
    def adapt(*_: Any) -> None:
        raise NotApplicable("it is too dark")

    said = results(subject_of(adapt))
    assert said["many-classes"] == "does not apply: the method is not applicable: it is too dark"
    assert not failed(said)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9")
@pytest.mark.parametrize("place", ["", "cuda.matmul", "cudnn.conv", "mkldnn.matmul"])
def test_a_precision_set_in_the_newer_way_is_a_failure_and_is_put_back(place: str) -> None:
    owner = attrgetter(f"backends.{place}".rstrip("."))(torch)

    def adapt(source: Any, target: Any, run: Any) -> Any:
        owner.fp32_precision = "ieee" if owner.fp32_precision == "tf32" else "tf32"
        return source.copy()

    before = torch_state()
    said = results(subject_of(adapt))
    assert failed(said) == {"torch-state-unchanged"}
    name = f"torch.backends.{place}".rstrip(".")
    assert f"{name}.fp32_precision from " in said["torch-state-unchanged"]
    seed = "seed of the global generator"
    assert {**torch_state(), seed: 0} == {**before, seed: 0}


def test_a_check_puts_the_state_of_torch_back() -> None:
    before = torch_state()
    results(subject_of(leave_a_hook))
    after = torch_state()
    seed = "seed of the global generator"
    assert {**after, seed: 0} == {**before, seed: 0}


def run_in_lock(**values: Any) -> LockedRun:
    case = plain_case()
    images = case.images[:4]
    with torch.no_grad():
        transformed = case.run(0, Path()).transforms.evaluate(images)
        logits = case.model.eval()(transformed).numpy()
    return replace(LockedRun(None, None, (), images, logits, 0.1, 1 << 29), **values)


@pytest.mark.parametrize(
    ("values", "check", "words"),
    [
        ({}, None, ""),
        ({"error": "x.py:3 in adapt: OSError", "logits": None}, "in-the-lock", "x.py:3 in adapt"),
        ({"seconds": MAX_SECONDS + 1}, "time-and-memory", "takes 21.0 s for 50 steps"),
        ({"memory": MAX_MEMORY + (1 << 30)}, "time-and-memory", "takes 5.0 GiB"),
        (
            {"logits": ZEROS, "layered": LayeredRun(None, ZEROS)},
            "same-in-the-lock",
            "gives other logits than this process",
        ),
        ({"layered": LayeredRun(None, ZEROS)}, "same-in-a-layer", "depends on its environment"),
        ({"layered": LayeredRun("no b", None)}, "same-in-a-layer", "of this one failed: no b"),
    ],
)
def test_the_checks_of_a_run_look_at_its_outcome(
    values: dict[str, Any], check: str | None, words: str
) -> None:
    subject = subject_of(lambda source, *_: source.copy())
    layered = values.pop("layered", LayeredRun(None, run_in_lock().logits))
    subject.__dict__ |= {"run_in_lock": run_in_lock(**values), "run_in_layer": layered}
    said = results(subject)
    assert failed(said) == ({check} if check else set())
    assert words in said.get(check or "", "")


def test_a_method_that_differs_from_itself_is_not_said_to_depend_on_its_environment() -> None:
    subject = subject_of(draw_without_seed)
    other = run_in_lock(logits=ZEROS)
    subject.__dict__ |= {"run_in_lock": other, "run_in_layer": LayeredRun(None, ZEROS + 1)}
    said = results(subject)
    assert failed(said) == {"same-seed"}
    for check in ("same-in-the-lock", "same-in-a-layer"):
        assert "see same-seed" in said[check]


def test_a_layer_that_takes_too_long_does_not_blame_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check_layer, "IMPORTS", 0.01 - check_layer.SECONDS)
    (source,) = load(["source"], [], {})
    layered = check_layer.run_in_layer([source.description], {})
    assert layered is not None
    assert layered.logits is None
    assert layered.error == "it took more than 0 s; if this machine is busy, repeat the check"


def test_a_layer_does_not_import_files_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("benchmark.py", "numpy.py"):
        (tmp_path / name).write_text("raise ValueError('a file of the user')")
    monkeypatch.chdir(tmp_path)
    (source,) = load(["source"], [])
    layered = check_layer.run_in_layer([source.description], {})
    assert layered is not None
    assert layered.error is None


def test_a_layer_that_fails_says_why_and_what_to_do(tmp_path: Path) -> None:
    plugin = tmp_path / "early.py"
    plugin.write_text(
        "import sys\n\nif '/layer/' in sys.prefix + '/':\n    raise ValueError('no prefix')\n"
        "from htbench import Method\n\n\nclass Early(Method):\n    name = 'early'\n\n"
        "    def adapt(self, source, target, run):\n        return source.copy()\n"
    )
    (early,) = load([], [str(plugin)], {})
    layered = check_layer.run_in_layer([early.description], {})
    assert layered is not None
    assert layered.logits is None
    assert layered.error is not None
    assert "no prefix" in layered.error
    assert layered.error.endswith(f". {check_layer.REMEDY}")


def test_a_machine_that_does_not_lock_fully_is_named() -> None:
    subject = subject_of(lambda source, *_: source.copy())
    subject.__dict__ |= {
        "run_in_lock": run_in_lock(missing=("no-network",)),
        "run_in_layer": LayeredRun(None, run_in_lock().logits),
    }
    assert "does not lock it fully (no-network)" in results(subject)["in-the-lock"]


KNOWS = """
import sys
from dataclasses import dataclass
import torch
from htbench import Method

@dataclass(frozen=True)
class Knows(Method):
    \"\"\"Knows which environment it runs in.\"\"\"

    name = "knows"
    scale: float = 1.0

    def adapt(self, source, target, run):
        model = source.copy()
        with torch.no_grad():
            model.head.bias += self.scale * ("htbench-" in sys.prefix)
        return model
"""


def test_a_run_from_an_environment_on_top_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "knows.py").write_text(KNOWS)
    path = f"{tmp_path / 'knows.py'}:Knows"
    checks = {check.name: check for check in checks_of_argument(path, [], {"scale": "2.0"})}
    with pytest.raises(CheckFailure, match="The method depends on its environment"):
        checks["same-in-a-layer"]()


READS = """
from dataclasses import dataclass
from pathlib import Path
from htbench import Method

@dataclass(frozen=True)
class Reads(Method):
    \"\"\"Reads a file that it does not declare.\"\"\"

    name = "reads"

    def adapt(self, source, target, run):
        Path(__file__ + ".txt").read_text()
        return source.copy()
"""


def test_a_method_that_reads_an_undeclared_file_fails_in_the_lock(tmp_path: Path) -> None:
    (tmp_path / "reads.py").write_text(READS)
    (tmp_path / "reads.py.txt").write_text("x")
    checks = {check.name: check for check in checks_of_argument(str(tmp_path / "reads.py"), [])}
    checks["finite-logits"]()
    with pytest.raises(CheckFailure, match=r"reads\.py:13 in adapt: .*declare the data files"):
        checks["in-the-lock"]()


@dataclass(frozen=True)
class Half(Method):
    """Fine-tune for a part of the steps, after a method of the suite."""

    name = "half"
    base = "finetune"
    part: float = 0.5

    def adapt(self, source, target, run):
        return fit(run.base, target, run, steps=round(self.part * run.recipe.steps))


@pytest.mark.parametrize("check", method_checks(Half(part=0.1))[:3])
def test_pytest_runs_the_checks_of_a_class(check, request: pytest.FixtureRequest) -> None:
    assert f"[{check.name}]" in request.node.name
    check()


def test_a_class_inside_a_function_cannot_be_run_in_the_lock() -> None:
    @dataclass(frozen=True)
    class Inner(Method):
        name = "inner"

        def adapt(self, source, target, run):
            return source.copy()

    checks = {check.name: check for check in method_checks(Inner)}
    with pytest.raises(SkipTest, match="define it there, outside of functions"):
        checks["in-the-lock"]()


def test_a_class_of_a_notebook_cannot_be_run_in_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    method = type("Cell", (Half,), {"__module__": "__main__"})
    checks = {check.name: check for check in method_checks(method)}
    with pytest.raises(SkipTest, match="a run imports Cell from its file: define it there"):
        checks["in-the-lock"]()


def test_the_cases_are_what_their_names_say() -> None:
    base, manifest = base_case(), icons_slice()
    names = [base.target.classes[label] for label in base.target.labels.tolist()]
    assert sorted(set(names)) == sorted(manifest.tasks[0].seen)
    assert list(base.target.classes) != sorted(base.target.classes)
    assert len(base.target) == 48
    assert check_cases.one_seen_class().target.seen.sum() == 1
    counts = check_cases.class_of_one_image().target.labels.unique(return_counts=True)[1]
    assert sorted(counts.tolist()) == [1, *[6] * 7]
    last = check_cases.last_batch_of_one()
    assert len(last.target) % last.recipe.batch_size == 1
    assert last.target.seen.sum() == 8
    many = check_cases.many_classes()
    assert (len(many.target.classes), int(many.target.seen.sum())) == (345, 24)
    assert many.target.missing is not None
    assert not many.target.seen[many.target.missing.labels].any()


def test_merging_batch_norm_keeps_the_logits() -> None:
    plain, merged = base_case(), check_cases.without_batch_norm()
    images = plain.run(0, Path()).transforms.evaluate(plain.images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in merged.model.modules())
    with torch.no_grad():
        expected = Classifier(plain.model.backbone.eval(), plain.model.head)(images)
        torch.testing.assert_close(merged.model.eval()(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", builtin_methods())
def test_a_built_in_method_passes_every_check_that_applies(name: str) -> None:
    said = []
    for check in checks_of_argument(name, []):
        with contextlib.suppress(SkipTest):
            check()
            said.append(check.name)
    assert len(said) >= 13
