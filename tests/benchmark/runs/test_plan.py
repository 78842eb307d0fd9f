"""The grid of a suite, and the key of a run: what changes it and what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark import keys
from benchmark.errors import ManifestError, MethodError, UsageError
from benchmark.files import digest_json
from benchmark.folders import PACKAGE
from benchmark.manifest.manifest import Manifest
from benchmark.methods import find as registry
from benchmark.methods.describe import MethodDescription, describe_cached
from benchmark.methods.files import OwnFile
from benchmark.runs import plan
from benchmark.runs.plan import RunSpec, grid, with_sources
from benchmark.sources.spec import SourceCheckpoint

pytestmark = pytest.mark.usefixtures("own_data")


@pytest.fixture
def method(tmp_path: Path) -> Callable[..., MethodDescription]:
    """Describes a method as its child would: ``method('lolsgd', rounds=('int', 10))``."""

    def describe(
        name: str, base: str | None = None, **fields: tuple[str, Any]
    ) -> MethodDescription:
        answer = {
            "name": name,
            "summary": "",
            "base": base,
            "track": "standard",
            "uses_features": False,
            "fields": [{"name": n, "type": k, "default": d} for n, (k, d) in fields.items()],
            "files": [],
        }
        origin = registry.MethodLocation(name, f"plugin.{name}", "M", None, "test 1.0")
        return describe_cached(origin, lambda *_: answer)

    return describe


class TestGrid:
    def test_task_by_task_and_bases_first(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        methods = [method("finetune"), method("calibrated", base="finetune"), method("source")]
        cells = grid(mini, ["solid-outline", "outline-solid"], methods, [0, 1], "cpu", {})
        assert [cell.name for cell in cells] == [
            f"{name} {task} seed {seed}"
            for task in ("solid-outline", "outline-solid")
            for name in ("finetune", "calibrated", "source")
            for seed in (0, 1)
        ]
        for cell in cells:
            if cell.method.base:
                assert cell.base is not None
                assert (cell.base.method.name, cell.base.task, cell.base.seed) == (
                    "finetune",
                    cell.task,
                    cell.seed,
                )
            else:
                assert cell.base is None

    def test_names_differ_with_the_rates(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        """Progress is shown by name, also of runs that a search carries out side by side."""
        factors = {0.5: "0.5", 1 / 3: "1/3", 0.333: "0.333", 0.3333: "0.3333", 1: ""}
        for factor, text in factors.items():
            cells = grid(
                mini.with_rate(factor), ["solid-outline"], [method("finetune")], [0], "cpu", {}
            )
            rates = f" rates x {text}" if text else ""
            assert [cell.name for cell in cells] == [f"finetune solid-outline seed 0{rates}"]

    def test_a_setting_goes_to_every_method_that_has_the_field(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        methods = [
            method("a", alpha=("float", 0.1), rounds=("int", 3)),
            method("b", alpha=("float", 0.2)),
            method("c"),
        ]
        settings = {"alpha": "0.2"}
        cells = grid(mini, ["outline-solid"], methods, [0], "cpu", settings)
        assert [dict(cell.config) for cell in cells] == [
            {"alpha": 0.2, "rounds": 3},
            {"alpha": 0.2},
            {},
        ]
        assert [cell.label for cell in cells] == ["a(alpha=0.2)", "b", "c"]

    def test_a_field_that_nobody_has(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        with pytest.raises(MethodError, match=r"--set beta: no selected .*; fields: alpha"):
            grid(
                mini, ["outline-solid"], [method("a", alpha=("int", 1))], [0], "cpu", {"beta": "1"}
            )
        with pytest.raises(MethodError, match="fields: none"):
            grid(mini, ["outline-solid"], [method("b")], [0], "cpu", {"beta": "1"})

    def test_a_value_of_the_wrong_type(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        with pytest.raises(MethodError, match=r"^alpha='x': a\.alpha must be a whole number"):
            grid(
                mini, ["outline-solid"], [method("a", alpha=("int", 1))], [0], "cpu", {"alpha": "x"}
            )

    def test_an_unknown_task(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        with pytest.raises(ManifestError, match="no task 'solid-solid'"):
            grid(mini, ["solid-solid"], [method("a")], [0], "cpu", {})


class TestDevice:
    def test_cpu_asks_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plan, "_torch_sees_cuda", lambda: pytest.fail("torch was asked"))
        assert plan.resolve_device("cpu") == "cpu"

    def test_cuda_where_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plan, "_torch_sees_cuda", lambda: False)
        assert plan.resolve_device("auto") == "cpu"
        with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA device"):
            plan.resolve_device("cuda")


Keys = Callable[..., RunSpec]


@pytest.fixture
def spec(mini: Manifest, method: Callable[..., MethodDescription]) -> Keys:
    """The spec of a run with some of its ingredients replaced."""

    def make(
        manifest: Manifest = mini,
        task: str = "outline-solid",
        seed: int = 0,
        alpha: str = "1",
        beta: str = "1",
        digest: str = "a" * 64,
        device: str = "cpu",
        code: str = "",
        name: str = "calibrated",
    ) -> RunSpec:
        base = method("finetune", beta=("float", 1.0))
        derived = method(name, base="finetune", alpha=("float", 1.0))
        own = dataclasses.replace(derived.own, files=(OwnFile("x.py", Path("x.py"), code),))
        derived = dataclasses.replace(derived, own=own)
        settings = {"alpha": alpha, "beta": beta}
        cells = grid(manifest, [task], [base, derived], [seed], device, settings)
        checkpoint = SourceCheckpoint(Path("model.safetensors"), digest, {})
        *_, last = with_sources(cells, {cell.source: checkpoint for cell in cells})
        return last

    return make


class TestKey:
    def test_is_stable(self, spec: Keys, draft: Any) -> None:
        """Not even where the manifest lies, or the order of its rows, plays a part."""
        draft.rows.reverse()
        assert spec().key == spec().key == spec(manifest=draft.read()).key
        assert len(spec().key) == 64

    def test_is_the_digest_of_the_facts(
        self, mini: Manifest, method: Callable[..., MethodDescription]
    ) -> None:
        """Also where runs of a cell share what is encoded."""
        methods = [method("finetune"), method("other", base="finetune", steps=("int", 3))]
        tasks = ["outline-solid", "solid-outline"]
        cells = grid(mini, tasks, methods, range(3), "cpu", {})
        cells += [dataclasses.replace(cell, search={"chosen": {"steps": 3}}) for cell in cells]
        digests = {cell.source: digest_json(i) for i, cell in enumerate(cells)}
        sources = {
            source: SourceCheckpoint(Path("model.safetensors"), digest, {})
            for source, digest in digests.items()
        }
        specs = list(with_sources(cells, sources))
        assert [spec.key for spec in specs] == [digest_json(s.facts.to_json()) for s in specs]
        assert len({spec.key for spec in specs}) == len(specs)

    @pytest.mark.parametrize(
        "change",
        [
            {"seed": 1},
            {"task": "solid-outline"},
            {"alpha": "0.5"},
            {"digest": "b" * 64},
            {"device": "cuda"},
            {"code": "other"},
            {"name": "other"},
            {"beta": "2"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_changes_with(self, spec: Keys, change: dict[str, Any]) -> None:
        assert spec(**change).key != spec().key

    def test_a_base_stands_for_all_that_it_was_made_from(self, spec: Keys) -> None:
        """beta is a field of the base alone: the run's own settings are the same."""
        one, two = spec(), spec(beta="2")
        assert one.base is not None
        assert two.base is not None
        assert one.facts.config == two.facts.config
        assert one.facts.base == one.base.key != two.base.key

    @pytest.mark.parametrize("part", ["recipe", "source", "model", "transforms"])
    def test_changes_with_every_part_of_the_manifest(
        self, spec: Keys, draft: Any, part: str
    ) -> None:
        draft.document[part]["width" if part == "model" else "more"] = 1
        assert spec(manifest=draft.read()).key != spec().key

    def test_changes_with_an_image(self, spec: Keys, draft: Any) -> None:
        draft.rows[0]["sha256"] = "0" * 64
        assert spec(manifest=draft.read()).key != spec().key

    @pytest.mark.parametrize("name", ["compute_digest", "version", "PROTOCOL", "SWITCHES"])
    def test_changes_with_what_computes(
        self, spec: Keys, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        before = spec().key
        other: Any = {
            "compute_digest": lambda: "other",
            "version": lambda distribution: "0.0",
            "PROTOCOL": "9.9",
            "SWITCHES": {},
        }[name]
        monkeypatch.setattr(keys, name, other)
        assert spec().key != before

    def test_a_file_that_computes_changed_by_one_byte(
        self, spec: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in keys.COMPUTES:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((PACKAGE / name).read_bytes())
        before = spec().key
        monkeypatch.setattr(keys, "PACKAGE", tmp_path)
        assert spec().key == before
        training = tmp_path / "training.py"
        training.write_bytes(training.read_bytes() + b"\n")
        assert spec().key != before
