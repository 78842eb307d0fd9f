"""icons@2.0 matches its README, and its builder writes the published manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from click.testing import CliRunner
from PIL import Image

from benchmark.errors import DataError
from benchmark.folders import packaged_manifests
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE
from data_manifests.builders import parts
from data_manifests.builders.__main__ import main
from data_manifests.builders.icons import (
    build,
    drawing,
    manifest_text,
    package,
    selection,
)
from data_manifests.builders.icons.classes import ALIASES
from data_manifests.builders.icons.names import normalise, words

DATA_SET = packaged_manifests() / "icons"
FOLDER = DATA_SET / "2.0"
COUNTS = {
    ("outline", "train"): 2437,
    ("outline", "test"): 900,
    ("solid", "train"): 1781,
    ("solid", "test"): 720,
    ("color", "train"): 639,
    ("color", "test"): 309,
}
PAIRS = ("outline-solid", "solid-outline", "outline-color", "solid-color", "outline+solid-color")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pq.read_table(FOLDER / IMAGES_FILE)


def icon_sets(table: pa.Table) -> list[str]:
    return [image_id.split("/")[0] for image_id in table["image_id"].to_pylist()]


@pytest.fixture(scope="module")
def manifest() -> dict:
    return tomllib.loads((FOLDER / MANIFEST_FILE).read_text("utf-8"))


@pytest.fixture(scope="module")
def attribution() -> list[dict[str, str]]:
    text = (FOLDER / parts.ATTRIBUTION).read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text)))


class TestImages:
    def test_columns(self, table: pa.Table) -> None:
        assert table.schema.equals(build.SCHEMA, check_metadata=True)

    def test_counts(self, table: pa.Table) -> None:
        pairs = zip(table["domain"].to_pylist(), table["split"].to_pylist(), strict=True)
        assert Counter(pairs) == COUNTS

    def test_ids_are_unique_and_sorted(self, table: pa.Table) -> None:
        ids = table["image_id"].to_pylist()
        assert ids == sorted(set(ids))

    def test_paths_follow_from_ids(self, table: pa.Table) -> None:
        for image_id, path in zip(
            table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True
        ):
            assert path == f"{image_id}.png"

    def test_the_image_path_is_the_path(self, table: pa.Table) -> None:
        assert pc.struct_field(table["image"], "path").equals(table["path"])

    def test_every_class_has_enough_images_in_every_domain_and_split(self, table: pa.Table) -> None:
        names = ("class", "domain", "split")
        cells = Counter(zip(*(table[name].to_pylist() for name in names), strict=True))
        assert len(cells) == 65 * 3 * 2
        assert min(n for (*_, part), n in cells.items() if part == "test") == 3
        assert min(n for (*_, part), n in cells.items() if part == "train") == 5

    def test_files_are_valid_images(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            content = row["image"]["bytes"]
            assert hashlib.sha256(content).hexdigest() == row["sha256"], row["image_id"]
            image = Image.open(io.BytesIO(content))
            image.load()
            assert image.format == "PNG"
            assert image.size == (32, 32)
            assert image.mode == ("RGB" if row["domain"] == "color" else "L"), row["image_id"]

    def test_labels_follow_from_names(self, table: pa.Table) -> None:
        for image_id, label in zip(
            table["image_id"].to_pylist(), table["class"].to_pylist(), strict=True
        ):
            assert normalise(image_id.split("/")[1]) in ALIASES[label]


class TestAttribution:
    def test_a_rebuild_gives_the_published_file(
        self, table: pa.Table, attribution: list[dict[str, str]]
    ) -> None:
        collections = {
            row["icon_set"]: {
                "name": row["title"],
                "license": {"spdx": row["license_spdx"], "url": row["license_url"]},
                "author": {"name": row["author"], "url": row["author_url"]},
                "version": row["set_version"],
            }
            for row in attribution
        }
        content = build.attribution_bytes(icon_sets(table), collections)
        assert content == (FOLDER / parts.ATTRIBUTION).read_bytes()

    def test_it_lists_every_icon_set_with_its_number_of_images(
        self, table: pa.Table, attribution: list[dict[str, str]]
    ) -> None:
        assert {row["icon_set"]: int(row["images"]) for row in attribution} == Counter(
            icon_sets(table)
        )

    def test_every_set_has_an_open_licence_and_an_author(
        self, attribution: list[dict[str, str]]
    ) -> None:
        for row in attribution:
            assert row["license_spdx"] in selection.LICENCES
            assert row["author"]

    def test_attribution_licences_have_a_url(self, attribution: list[dict[str, str]]) -> None:
        cc_by = [row for row in attribution if row["license_spdx"] == "CC-BY-4.0"]
        assert len(cc_by) == 40
        assert all(row["license_url"] and row["author_url"] for row in cc_by)


class TestManifest:
    def test_a_rebuild_gives_the_published_file(self) -> None:
        manifest = build.build_manifest(FOLDER)[MANIFEST_FILE]
        assert manifest.decode() == (FOLDER / MANIFEST_FILE).read_text("utf-8")

    def test_classes_are_those_of_the_images(self, manifest: dict, table: pa.Table) -> None:
        assert manifest["classes"] == sorted(set(table["class"].to_pylist()))

    def test_training_toml_is_copied(self, manifest: dict) -> None:
        training = tomllib.loads(build.TRAINING.read_text("utf-8"))
        assert {name: manifest[name] for name in training} == training

    def test_seen_classes_follow_the_documented_rule(self, manifest: dict) -> None:
        for task in manifest["tasks"]:
            pair, *words = task["id"].split(".")
            count = next((int(w[4:]) for w in words if w.startswith("seen")), 32)
            draw = next((int(w[4:]) for w in words if w.startswith("draw")), 1)
            order = sorted(
                manifest["classes"],
                key=lambda c: hashlib.sha256(f"icons/2.0/seen/{pair}/{draw}/{c}".encode()).digest(),
            )
            assert task["seen"] == sorted(order[:count]), task["id"]

    def test_tasks(self, manifest: dict) -> None:
        tasks = {task["id"]: task for task in manifest["tasks"]}
        draws = ["", ".draw2", ".draw3"]
        partial = [f".seen{n}.draw{draw}" for n in (8, 16, 48) for draw in (1, 2)]
        assert list(tasks) == [
            *(pair + draw for draw in draws for pair in PAIRS),
            *(pair + suffix for pair in PAIRS[:2] for suffix in partial),
        ]
        for name, task in tasks.items():
            sources, target = name.split(".")[0].split("-")
            assert (task["sources"], task["target"]) == (sources.split("+"), target)

    def test_draws_differ(self, manifest: dict) -> None:
        draws = [tuple(task["seen"]) for task in manifest["tasks"] if len(task["seen"]) == 32]
        assert len(set(draws)) == len(draws) == 15

    def test_source_models_are_pinned(self, manifest: dict) -> None:
        source = manifest["source"]
        places = [(tuple(pin["sources"]), pin["seed"]) for pin in source["checkpoints"]]
        kinds = [("outline",), ("solid",), ("outline", "solid")]
        assert sorted(places) == sorted((kind, seed) for kind in kinds for seed in range(3))
        size = 0
        for pin in source["checkpoints"]:
            content = (FOLDER / pin["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == pin["sha256"]
            tensors = safetensors.numpy.load(content)
            assert {str(t.dtype) for n, t in tensors.items() if "num_batches" not in n} == {
                "float32"
            }
            size += len(content)
        assert size < 3_000_000
        assert len(list((FOLDER / "checkpoints").iterdir())) == 9

    def test_named_recipes_are_hotter_and_longer(self, manifest: dict) -> None:
        default, recipes = manifest["recipe"], manifest["recipes"]
        assert recipes == {
            "hot": {
                name: pytest.approx(10 * default[name], rel=1e-12)
                for name in ("head_lr", "backbone_lr")
            },
            "long": {"steps": 4 * default["steps"]},
        }

    def test_training_toml_with_an_extra_table_is_refused(self, tmp_path: Path) -> None:
        training = tmp_path / "training.toml"
        training.write_text(build.TRAINING.read_text("utf-8") + "\n[extra]\na = 1\n", "utf-8")
        with pytest.raises(DataError, match=r"must contain exactly the tables .*, extra$"):
            manifest_text.read_training(training)


class TestCommand:
    def test_published_files_are_not_overwritten(self, tmp_path: Path) -> None:
        parts.write_files(tmp_path, {"a": b"1", "b": b"2"}, force=False)
        parts.write_files(tmp_path, {"a": b"1"}, force=False)
        with pytest.raises(DataError, match="a different 'b'"):
            parts.write_files(tmp_path, {"a": b"1", "b": b"3", "c": b"4"}, force=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
        parts.write_files(tmp_path, {"b": b"3"}, force=True)
        assert (tmp_path / "b").read_bytes() == b"3"

    def test_a_wrong_package_is_not_opened(self, tmp_path: Path) -> None:
        other = tmp_path / "other.tgz"
        other.write_bytes(b"not the package")
        with pytest.raises(DataError, match="15 bytes"), package.open_package(other):
            pass

    @pytest.mark.parametrize("arguments", [[], ["--manifest-only", "--package", "x.tgz"]])
    def test_an_error_is_one_sentence_with_status_2(self, arguments: list[str]) -> None:
        result = CliRunner().invoke(main, ["icons", *arguments])
        assert result.exit_code == 2
        assert result.stderr == "Error: give either --package TARBALL or --manifest-only\n"


class TestNames:
    @pytest.mark.parametrize(
        ("name", "subject"),
        [
            ("home", "home"),
            ("outline-alarm-clock-24", "alarm-clock"),
            ("baseline-round-home-outlined", "home"),
            ("sharp-light", "sharp"),
            ("open-book-line", "open-book"),
            ("line", "line"),
        ],
    )
    def test_normalise_strips_style_from_both_ends(self, name: str, subject: str) -> None:
        assert normalise(name) == subject

    def test_no_alias_belongs_to_two_classes(self) -> None:
        aliases = [alias for names in ALIASES.values() for alias in names]
        assert len(aliases) == len(set(aliases))

    def test_aliases_are_normalised(self) -> None:
        assert [a for names in ALIASES.values() for a in names if normalise(a) != a] == []


def square(side: int, border: int | None = None) -> np.ndarray:
    """A black square on a transparent background; only its outline if ``border`` is set."""
    rgba = np.zeros((64, 64, 4), np.float32)
    low = (64 - side) // 2
    rgba[low : low + side, low : low + side, 3] = 255
    if border is not None:
        inner = slice(low + border, low + side - border)
        rgba[inner, inner, 3] = 0
    return rgba


class TestDrawing:
    @pytest.mark.parametrize(
        ("rgba", "name", "palette", "expected"),
        [
            (square(40), "box", False, "solid"),
            (square(40, border=4), "box", False, "outline"),
            (square(40, border=8), "box", False, None),
            (square(40), "box", True, "color"),
            (square(20), "box", False, None),
            (square(0), "box", False, None),
            (square(40), "box-outline", False, None),
            (square(40, border=4), "box-filled", False, None),
            (square(40) * 0.6, "box", False, None),
        ],
        ids=[
            "solid",
            "outline",
            "between",
            "palette",
            "small",
            "empty",
            "solid named outline",
            "outline named filled",
            "half transparent",
        ],
    )
    def test_style(self, rgba: np.ndarray, name: str, palette: bool, expected: str | None) -> None:
        pytest.importorskip("scipy")
        assert drawing.style(rgba, words(name), palette=palette) == expected

    def test_shrink_composites_onto_white(self) -> None:
        pixels = drawing.shrink(square(40))
        assert pixels.shape == (32, 32, 3)
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[16, 16].tolist() == [0, 0, 0]

    def test_svg_is_square_and_not_animated(self) -> None:
        body = '<path d="M0 0"><animate to="1"/></path><set x="2">y</set>'
        svg = drawing.svg_document({"body": body, "width": 10}, {"height": 20})
        assert 'viewBox="-5.0 0.0 20 20"' in svg
        assert svg.endswith('<path d="M0 0"></path></svg>')

    def test_rendered_ink_matches_the_svg(self) -> None:
        pytest.importorskip("resvg_py")
        svg = drawing.svg_document({"body": '<path fill="currentColor" d="M0 0h8v16H0z"/>'}, {})
        alpha = drawing.render(svg)[..., 3]
        assert alpha.shape == (64, 64)
        assert (alpha[:, :32] == 255).all()
        assert (alpha[:, 32:] == 0).all()


def icon(icon_set: str, name: str, shade: int) -> selection.Icon:
    pixels = np.full((32, 32, 3), shade, np.uint8)
    return selection.Icon(icon_set, name, "bell", "solid", pixels)


class TestSelection:
    def test_near_duplicates_are_kept_once(self) -> None:
        groups = selection.distinct([icon("a", "bell", 0), icon("b", "bell", 19)])
        assert len(groups["bell", "solid"]) == 1

    def test_different_drawings_are_kept(self) -> None:
        groups = selection.distinct([icon("a", "bell", 0), icon("b", "bell", 20)])
        assert len(groups["bell", "solid"]) == 2

    def test_at_most_two_icons_per_set_are_kept(self) -> None:
        groups = selection.distinct([icon("a", f"bell-{i}", 60 * i) for i in range(4)])
        assert len(groups["bell", "solid"]) == 2

    def test_closed_licences_logos_and_animations_are_excluded(self) -> None:
        collections = {
            "open": {"license": {"spdx": "MIT"}},
            "closed": {"license": {"spdx": "GPL-3.0"}},
            "unnamed": {"license": {}},
            "brands": {"license": {"spdx": "MIT"}, "category": "Logos"},
            "line-md": {"license": {"spdx": "MIT"}},
        }
        assert selection.usable_sets(collections) == ["open"]


class TestReadme:
    def test_its_python_runs_offline(self, tmp_path: Path) -> None:
        readme = (DATA_SET / "README.md").read_text("utf-8")
        blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
        checks = "assert first.size == (32, 32), first\nassert len(rows) == len(icons) == 6786\n"
        checks += "assert len(test) == 1929"
        run = subprocess.run(
            [sys.executable, "-c", "\n".join([*blocks, checks])],
            cwd=DATA_SET.parents[1],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr

    def test_its_numbers_match_the_files(
        self, table: pa.Table, attribution: list[dict[str, str]]
    ) -> None:
        readme = (DATA_SET / "README.md").read_text("utf-8")
        cells = Counter(
            zip(*(table[name].to_pylist() for name in ("domain", "split", "class")), strict=True)
        )
        rows = []
        for domain in selection.DOMAINS:
            line = f"| {domain} |"
            for part in ("train", "test"):
                counts = [n for key, n in cells.items() if key[:2] == (domain, part)]
                line += f" {sum(counts)} ({min(counts)} to {max(counts)}) |"
            rows.append(line)
        sets = Counter(row["license_spdx"] for row in attribution)
        for licence, n_sets in sets.items():
            images = sum(int(r["images"]) for r in attribution if r["license_spdx"] == licence)
            rows.append(f"| {licence} | {n_sets} | {images} |")
        assert [row for row in rows if row not in readme] == []
