"""What a manifest and a suite must hold, and what their digest stands for."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import manifest as module
from benchmark.errors import ManifestError
from benchmark.folders import packaged_manifests
from benchmark.manifest import (
    Manifest,
    canonical_digest,
    known_suites,
    load_manifest,
    load_suite,
    pinned_digests,
    published_manifests,
    read_manifest,
)
from benchmark.registry import entry_point_sources

# A shared machine may stall any example, and a test leaves nothing on disk.
PROPERTY = settings(deadline=None, database=None, max_examples=25)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    path = packaged_manifests() / "icons" / "1.0" / "images.parquet"
    return pd.read_parquet(path, columns=["image_id", "domain", "class", "split"])


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    path = packaged_manifests() / "icons" / "1.0" / "manifest.toml"
    return tomllib.loads(path.read_text("utf-8"))


class TestIcons:
    """The shipped manifest against a naive reading of its two files."""

    def test_names_and_order(self, icons: Manifest, document: dict[str, Any]) -> None:
        assert icons.reference == "icons@1.0"
        assert icons.classes == tuple(document["classes"])
        assert [d.name for d in icons.domains] == ["outline", "solid", "color"]
        assert [t.id for t in icons.tasks] == [
            "outline-solid", "solid-outline", "outline+solid-color"
        ]  # fmt: skip

    @pytest.mark.parametrize("split", ["train", "test"])
    @pytest.mark.parametrize("domains", ["solid", ("outline", "color")])
    def test_samples(
        self, icons: Manifest, rows: pd.DataFrame, domains: str | tuple[str, ...], split: str
    ) -> None:
        wanted = [domains] if isinstance(domains, str) else domains
        part = rows[rows["domain"].isin(wanted) & (rows["split"] == split)].sort_values("image_id")
        samples = icons.samples(domains, split)
        assert list(samples.ids) == part["image_id"].tolist()
        assert [icons.classes[i] for i in samples.labels] == part["class"].tolist()

    def test_counts_of_every_task(
        self, icons: Manifest, rows: pd.DataFrame, document: dict[str, Any]
    ) -> None:
        for task, entry in zip(icons.tasks, document["tasks"], strict=True):
            mask = icons.seen_mask(task)
            assert [c for c, seen in zip(icons.classes, mask, strict=True) if seen] == [
                c for c in document["classes"] if c in entry["seen"]
            ]
            for split in ("train", "test"):
                part = rows[(rows["domain"] == entry["target"]) & (rows["split"] == split)]
                labels = icons.samples(task.target, split).labels
                assert mask[labels].sum() == part["class"].isin(entry["seen"]).sum()
                assert (~mask)[labels].sum() == (~part["class"].isin(entry["seen"])).sum()

    def test_a_task_by_its_id(self, icons: Manifest) -> None:
        assert icons.task("solid-outline").sources == ("solid",)
        with pytest.raises(ManifestError, match="no task 'solid-outlin'; it has: outline-solid"):
            icons.task("solid-outlin")


class TestFinding:
    def test_by_reference_and_by_folder(self, icons: Manifest) -> None:
        assert load_manifest(packaged_manifests() / "icons" / "1.0").digest == icons.digest

    @pytest.mark.parametrize("reference", ["icons", "icons@", "icons@9.9", "../icons@1.0", ""])
    def test_unknown(self, reference: str) -> None:
        with pytest.raises(ManifestError, match=r"no manifest .*known: .*icons@1\.0"):
            load_manifest(reference)

    def test_the_folder_must_be_named_after_the_manifest(self, draft: Any, own_data: Path) -> None:
        draft.root = own_data / "manifests" / "other" / "0.1"
        draft.write()
        assert "other@0.1" in published_manifests()
        with pytest.raises(ManifestError, match="named after the manifest"):
            load_manifest("other@0.1")

    def test_in_the_data_folder(self, draft: Any, own_data: Path) -> None:
        draft.root = own_data / "manifests" / "mini" / "0.1"
        assert draft.read().digest == load_manifest("mini@0.1").digest


def entry(index: int, **changes: object) -> Callable[[Any], None]:
    """Change a task."""
    return lambda draft: draft.document["tasks"][index].update(changes)


def top(**changes: object) -> Callable[[Any], None]:
    """Change the top of the document."""
    return lambda draft: draft.document.update(changes)


def row(index: int, **changes: object) -> Callable[[Any], None]:
    """Change a row."""
    return lambda draft: draft.rows[index].update(changes)


def without(*keys: str) -> Callable[[Any], None]:
    def change(draft: Any) -> None:
        for key in keys:
            del draft.document[key]

    return change


def drop(**wanted: str) -> Callable[[Any], None]:
    """Leave out the rows with these values."""

    def change(draft: Any) -> None:
        gone = draft.rows_of(**wanted)
        draft.rows = [r for r in draft.rows if r not in gone]

    return change


def in_two_splits(column: str, **other: str) -> Callable[[Any], None]:
    """Give a test image the path or checksum of a training image."""

    def change(draft: Any) -> None:
        train = draft.rows_of(domain="solid", split="train")[0]
        draft.rows_of(split="test", **other)[0][column] = train[column]

    return change


class TestDocument:
    """Every rule of manifest.toml: one clear message each."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (top(format=2), r"format is 2; this version of the suite reads format 1"),
            (without("format"), r"format is None"),
            *[
                (without(key), rf"{key} is missing")
                for key in ("name", "version", "title", "terms", "citation", "classes", "domains",
                            "tasks", "image_size", "model", "transforms", "source", "recipe")
            ],
            (without("images"), r"images is None; known: embedded, folder"),
            (top(name="Mini icons"), r"name is 'Mini icons'; it must be a name"),
            (top(name="../mini"), r"name is '\.\./mini'"),
            (top(version="one"), r"version is 'one'"),
            (top(version="1..0"), r"version is '1\.\.0'"),
            (top(version=1.0), r"version is 1\.0; it must be a string"),
            (top(title=" "), r"title is ' '"),
            (top(title="red \x1b[31m"), r"control characters in 'red \\x1b\[31m'"),
            (top(image_size=True), r"image_size is True; it must be a number of pixels"),
            (top(image_size=0), r"image_size must be from 1 to 4096"),
            (top(images="folder"), None),
            (top(images="cloud"), r"images is 'cloud'; known: embedded, folder"),
            (top(mirrors=[{"address": "x", "bytes": 1, "sha256": "a" * 64}]), None),
            (top(mirrors={"address": "x"}), r"mirrors must be an array of tables"),
            (top(mirrors=[{"title": "x"}]), r"mirrors\[0\]: address is missing"),
            (top(mirrors=[{"address": "x", "bytes": 0}]), r"\[0\]: bytes must be at least 1"),
            (top(mirrors=[{"address": "x", "sha256": "a"}]), r"sha256 must be 64 lower-case hex"),
            (top(classes=[]), r"classes must be a list of names; it holds nothing"),
            (top(classes=["bell", 3]), r"classes must be a list of names; it holds 3"),
            (top(classes=["bell", "bug", "bell"]), r"classes names 'bell' more than once"),
            (top(classes=["bell\u009b"]), r"control characters"),
            (top(model="convnet"), r"model is 'convnet'; it must be a table"),
            (top(tasks=[]), r"tasks must be a non-empty array of tables"),
            (top(tasks=["a"]), r"tasks must be a non-empty array of tables"),
            (top(domains=[{"folders": ["x"]}]), r"domains\[0\]: name is missing"),
            (top(domains=[{"name": "solid"}]), r"domain solid: folders is missing"),
            (top(domains=[{"name": "a", "folders": ["x"]}] * 2), r"domains names 'a' more than"),
            (entry(1, id="outline-solid"), r"tasks names 'outline-solid' more than once"),
            (entry(0, id="a/b"), r"tasks\[0\]: id is 'a/b'"),
            (entry(0, sources=[]), r"task outline-solid: sources must be a list of names"),
            (entry(0, sources=["sketch"]), r"task outline-solid: unknown domain 'sketch'; known"),
            (entry(0, target="sketch"), r"task outline-solid: unknown domain 'sketch'; known"),
            (entry(2, target="solid"), r"the target 'solid' is one of its sources"),
            (entry(0, seen=["bell", "yeti"]), r"task outline-solid: unknown class 'yeti' in seen"),
            (entry(0, seen=["bell", "bell"]), r"seen names 'bell' more than once"),
            (
                entry(0, seen=["airplane", "bell", "bug", "house", "star"]),
                r"every class is seen; a partial-target task needs missing classes",
            ),
            (top(recipe={"lr": "NaN"}), None),
            (top(recipe={"lr": float("nan")}), r"the value nan is not allowed"),
            (top(recipe={"lr": float("inf")}), r"the value inf is not allowed"),
            (top(recipe={"steps": 1 << 63}), r"a whole number does not fit into 64 bits"),
            (top(recipe={"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}), r"nested more than 16 deep"),
        ],
    )  # fmt: skip
    def test_rule(self, draft: Any, change: Callable[[Any], None], message: str | None) -> None:
        change(draft)
        if message is None:
            draft.read()
            return
        with pytest.raises(ManifestError, match=message) as caught:
            draft.read()
        assert str(caught.value).startswith(str(draft.root / "manifest.toml"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"format = ", "is not valid TOML"),
            (b"title = '\xff'", "is not valid TOML"),
            (b"a = " + b"[" * 100_000, "is not valid TOML"),
            (b"a = " + b"1" * 5000, "is not valid TOML"),
            (b"when = 2024-01-01", r"the value datetime\.date\(2024, 1, 1\) is not allowed"),
            (b"at = 07:30:00", "is not allowed"),
            (b"#" * (module.MAX_TOML_BYTES + 1), "is larger than 4194304 bytes"),
        ],
        ids=lambda value: None if isinstance(value, bytes) else value,
    )
    def test_not_a_document(self, draft: Any, text: bytes, message: str) -> None:
        (draft.write() / "manifest.toml").write_bytes(text)
        with pytest.raises(ManifestError, match=message):
            read_manifest(draft.root)

    @pytest.mark.parametrize("name", ["manifest.toml", "images.parquet"])
    def test_missing_file(self, draft: Any, name: str) -> None:
        (draft.write() / name).unlink()
        with pytest.raises(ManifestError, match=f"{name} does not exist"):
            read_manifest(draft.root)


class TestImages:
    """Every rule of images.parquet."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (row(0, **{"class": "yeti"}), r"unknown class 'yeti' \(image '.+'\); it must be"),
            (row(0, domain="sketch"), r"unknown domain 'sketch'"),
            (row(0, split="val"), r"unknown split 'val'"),
            (in_two_splits("path"), r"an image is in two splits: .+ have the same path"),
            (
                in_two_splits("sha256", domain="solid"),
                r"an image is in two splits: .+ have the same sha256",
            ),
            (in_two_splits("sha256", domain="color"), None),  # the scope is one domain
            (
                drop(domain="solid", split="train", **{"class": "bug"}),
                r"task outline-solid: seen class without a training image in solid: 'bug'",
            ),
            (drop(domain="solid", split="train", **{"class": "star"}), None),
            (
                lambda draft: [drop(domain="solid", split="test", **{"class": c})(draft)
                               for c in ("bell", "bug", "house")],
                r"task outline-solid: empty group: no test image of a seen class in solid",
            ),
            (
                lambda draft: [drop(domain="solid", split="test", **{"class": c})(draft)
                               for c in ("airplane", "star")],
                r"task outline-solid: empty group: no test image of a missing class in solid",
            ),
            (
                drop(domain="outline", split="train"),
                r"task outline-solid: the source outline has no training image",
            ),
            (lambda draft: draft.rows.clear(), r"there is no image"),
            (lambda draft: draft.rows.append({**draft.rows[0], "path": "other.png"}),
             r"image_id is not unique: "),
            (lambda draft: draft.rows[1].update(path=draft.rows[0]["path"]),
             r"two images have the same path"),
            *[
                (row(0, path=path), r"path leaves the data set's root, or is not a plain relative")
                for path in ("/etc/passwd", "..", "../x.png", "a/../../x.png", "a\\b.png",
                             "C:/x.png", "C:x.png", "./x.png", "a//b.png", "a/./b.png", "a/", ".")
            ],
            (row(0, path=""), r"column path has empty or control characters: ''"),
            (row(0, path="a\nb.png"), r"column path has empty or control characters: 'a\\nb"),
            (row(0, image_id="a\x1b[2J"), r"column image_id has empty or control characters"),
            (row(0, image_id="a\u009b2J"), r"column image_id has empty or control characters"),
            (row(0, group=""), r"column group has empty or control characters"),
            (row(0, group=None), None),
            (row(0, domain=None), r"column domain has 1 empty values"),
            (row(0, sha256="0" * 63), r"sha256 must be 64 lower-case hex digits"),
            (row(0, sha256="A" * 64), r"sha256 must be 64 lower-case hex digits"),
            (row(0, sha256=None), r"every embedded image needs its sha256"),
        ],
    )  # fmt: skip
    def test_rule(self, draft: Any, change: Callable[[Any], Any], message: str | None) -> None:
        change(draft)
        if message is None:
            draft.read()
            return
        with pytest.raises(ManifestError, match=message) as caught:
            draft.read()
        assert "\x1b" not in str(caught.value)

    @pytest.mark.parametrize("column", ["image_id", "domain", "class", "split", "path"])
    def test_missing_column(self, draft: Any, column: str) -> None:
        draft.write(draft.table().drop_columns([column]))
        with pytest.raises(ManifestError, match=rf"images\.parquet lacks the columns {column}"):
            read_manifest(draft.root)

    def test_the_digest_covers_embedded_pixels_by_their_checksums(self, draft: Any) -> None:
        draft.write(draft.table().drop_columns(["sha256"]))
        with pytest.raises(ManifestError, match="every embedded image needs its sha256"):
            read_manifest(draft.root)

    def test_images_in_a_folder_need_no_checksums(self, draft: Any) -> None:
        draft.document["images"] = "folder"
        draft.write(draft.table().drop_columns(["sha256"]))
        assert "sha256" not in read_manifest(draft.root).table.column_names

    def test_wrong_type(self, draft: Any) -> None:
        table = draft.table()
        draft.write(table.set_column(3, "split", pa.array([1] * table.num_rows)))
        with pytest.raises(ManifestError, match="column split holds int64, not strings"):
            read_manifest(draft.root)

    def test_the_same_column_twice(self, draft: Any) -> None:
        table = draft.table()
        draft.write(table.append_column("path", table["path"]))
        with pytest.raises(ManifestError, match="more than one column path"):
            read_manifest(draft.root)

    def test_text_that_is_not_utf8(self, draft: Any) -> None:
        table = draft.table()
        bad = pa.array([b"\xff\xfe"] * table.num_rows).cast(pa.binary()).view(pa.string())
        draft.write(table.set_column(4, "path", bad))
        with pytest.raises(ManifestError, match=r"not a readable Parquet file: .*UTF8"):
            read_manifest(draft.root)

    def test_not_parquet(self, draft: Any) -> None:
        (draft.write() / "images.parquet").write_bytes(b"image_id,domain\n")
        with pytest.raises(ManifestError, match="not a readable Parquet file"):
            read_manifest(draft.root)

    def test_damaged_pages(self, draft: Any) -> None:
        path = draft.write(compression="zstd") / "images.parquet"
        data = bytearray(path.read_bytes())
        data[10:2000] = bytes(1990)
        path.write_bytes(data)
        with pytest.raises(ManifestError, match="not a readable Parquet file"):
            read_manifest(draft.root)

    def test_too_many_rows(self, draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_IMAGES", 10)
        with pytest.raises(ManifestError, match="more than 10 rows"):
            draft.read()


class TestDigest:
    @PROPERTY
    @given(order=st.permutations(range(90)))
    def test_row_order_is_out(self, mini: Manifest, order: list[int]) -> None:
        assert canonical_digest(mini.document, mini.table.take(order)) == mini.digest

    @PROPERTY
    @given(
        options=st.fixed_dictionaries(
            {
                "compression": st.sampled_from(["none", "snappy", "gzip", "zstd"]),
                "use_dictionary": st.booleans(),
                "row_group_size": st.sampled_from([7, 1000]),
                "data_page_version": st.sampled_from(["1.0", "2.0"]),
            }
        ),
        kind=st.sampled_from(
            [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
        ),
    )
    def test_the_writer_of_the_parquet_file_is_out(
        self, mini: Manifest, tmp_path_factory: pytest.TempPathFactory, options: Any, kind: Any
    ) -> None:
        folder = tmp_path_factory.mktemp("written")
        (folder / "manifest.toml").write_bytes((mini.root / "manifest.toml").read_bytes())
        columns = {n: pc.cast(mini.table[n], kind) for n in reversed(mini.table.column_names)}
        pq.write_table(pa.table(columns), folder / "images.parquet", **options)
        assert read_manifest(folder).digest == mini.digest

    def test_key_order_comments_and_line_ends_of_the_toml_are_out(
        self, draft: Any, mini: Manifest
    ) -> None:
        draft.document = dict(reversed(draft.document.items()))
        path = draft.write() / "manifest.toml"
        path.write_bytes(b"# a comment\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert read_manifest(draft.root).digest == mini.digest

    def test_pixels_are_out_since_their_checksums_are_in(self, draft: Any, mini: Manifest) -> None:
        draft.rows[0]["image"] = {"bytes": b"other", "path": None}
        assert draft.read().digest == mini.digest

    @PROPERTY
    @given(
        position=st.integers(0, 89),
        column=st.sampled_from(["image_id", "domain", "class", "split", "path", "sha256", "group"]),
        data=st.data(),
    )
    def test_every_value_of_every_row_is_in(
        self, mini: Manifest, position: int, column: str, data: st.DataObject
    ) -> None:
        values = mini.table[column].to_pylist()
        values[position] = data.draw(st.sampled_from([None, values[position] + "x", "\ufffd"]))
        index = mini.table.column_names.index(column)
        changed = mini.table.set_column(index, column, pa.array(values, pa.string()))
        assert canonical_digest(mini.document, changed) != mini.digest

    def test_a_column_more_or_less_is_in(self, mini: Manifest) -> None:
        assert canonical_digest(mini.document, mini.table.drop_columns(["group"])) != mini.digest

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d["classes"].reverse(),
            lambda d: d["recipe"].update(steps=5),
            lambda d: d["recipe"].update(momentum=0.8),
            lambda d: d["source"].update(nesterov=False),
            lambda d: d["model"].update(width=5),
            lambda d: d["transforms"]["train"].pop(),
            lambda d: d["tasks"][0]["seen"].pop(),
            lambda d: d["tasks"].reverse(),
            lambda d: d.update(terms="none"),
        ],
        ids=["class order", "steps", "momentum", "source", "model", "augmentation", "seen",
             "task order", "terms"],
    )  # fmt: skip
    def test_every_part_of_the_document_is_in(
        self, draft: Any, mini: Manifest, change: Callable[[Any], object]
    ) -> None:
        change(draft.document)
        assert draft.read().digest != mini.digest

    def test_it_is_what_the_docstring_says(self, mini: Manifest) -> None:
        """An independent reading of the definition; a change of it would orphan every result."""
        import hashlib

        text = "htbench manifest 1\n" + json.dumps(
            mini.document, sort_keys=True, separators=(",", ":")
        )
        frame = mini.table.to_pandas().sort_values("image_id")
        for column in ("image_id", "domain", "class", "split", "path", "sha256", "group"):
            text += f"\n\n{column}\n" + "\n".join(frame[column])
        assert mini.digest == hashlib.sha256(text.encode()).hexdigest()

    def test_every_published_digest_is_pinned(self) -> None:
        """A published version never changes: a correction is a new version."""
        shipped = {
            f"{path.parent.parent.name}@{path.parent.name}"
            for path in packaged_manifests().glob("*/*/manifest.toml")
        }
        assert pinned_digests() == {name: load_manifest(name).digest for name in shipped}


class TestSuites:
    @pytest.mark.parametrize("name", known_suites())
    def test_shipped(self, name: str) -> None:
        suite = load_suite(name)
        manifest = load_manifest(suite.manifest)
        assert set(suite.tasks) <= {task.id for task in manifest.tasks}
        assert set(suite.methods) <= set(entry_point_sources())
        assert suite.seeds == (0, 1, 2)
        assert suite.methods[0] == "source"  # disruption is measured against it

    @pytest.mark.parametrize("name", ["icons-full", "office-home", "office-home-all", "domainnet"])
    def test_a_full_suite_has_every_method_that_ships(self, name: str) -> None:
        project = tomllib.loads((packaged_manifests().parent / "pyproject.toml").read_text("utf-8"))
        shipped = project["project"]["entry-points"]["holistic_transfer.methods"]
        methods = load_suite(name).methods
        assert methods[:2] == ("source", "finetune")
        assert list(methods[2:]) == sorted(set(shipped) - {"source", "finetune"})

    def test_the_full_suite_of_icons_is_icons_with_more_methods(self) -> None:
        full, some = load_suite("icons-full"), load_suite("icons")
        assert (full.manifest, full.tasks, full.seeds) == (some.manifest, some.tasks, some.seeds)
        assert set(some.methods) < set(full.methods)

    def test_all_methods_of_an_installation_without_any(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("benchmark.registry.entry_point_sources", dict)
        with pytest.raises(ManifestError, match="methods is 'all', and none is registered"):
            load_suite("icons-full")

    def test_icons(self) -> None:
        assert "icons" in known_suites()
        assert load_suite("icons").manifest == "icons@1.0"

    def test_from_a_file_beside_its_manifest(self, draft: Any, tmp_path: Path) -> None:
        draft.write()
        path = tmp_path / "own.toml"
        path.write_text(
            'title = "T"\nmanifest = "mini"\ntasks = ["outline-solid"]\n'
            'methods = ["source"]\nseeds = [7]\n'
        )
        suite = load_suite(str(path))
        assert (suite.name, suite.seeds) == ("own", (7,))
        assert load_manifest(suite.manifest).reference == "mini@0.1"

    @pytest.mark.parametrize("name", ["icon", "../suites/icons", "", "no.toml"])
    def test_unknown(self, name: str) -> None:
        with pytest.raises(ManifestError, match=r"no suite .*known: .*icons"):
            load_suite(name)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("seeds = []", "seeds must be a list of whole numbers"),
            ("seeds = [-1]", "seeds must be a list of whole numbers"),
            ("seeds = [4294967296]", "seeds must be a list of whole numbers"),
            ("seeds = [true]", "seeds must be a list of whole numbers"),
            ("seeds = [1, 1]", "seeds names a seed more than once"),
            ("seeds = 1", "seeds is 1; it must be a list of whole numbers"),
            ("tasks = []", "tasks must be a list of names"),
            ('methods = ["source", "source"]', "methods names 'source' more than once"),
            (
                'methods = "some"',
                "methods is 'some'; it must be a list of names, or 'all' for every",
            ),
            ("methods = 1", "methods is 1; it must be a list of names"),
            ("title = 3", "title is 3; it must be a string"),
            ('title = "\\u001b[2J"', "control characters"),
            ("manifest = 1", "manifest is 1; it must be a string"),
        ],
    )
    def test_rule(self, tmp_path: Path, line: str, message: str) -> None:
        lines = {
            "title": '"T"',
            "manifest": '"icons@1.0"',
            "tasks": '["outline-solid"]',
            "methods": '["source"]',
            "seeds": "[0]",
        }
        key, _, value = line.partition(" = ")
        path = tmp_path / "bad.toml"
        path.write_text("".join(f"{k} = {v}\n" for k, v in {**lines, key: value}.items()))
        with pytest.raises(ManifestError, match=message) as caught:
            load_suite(str(path))
        assert str(caught.value).startswith(str(path))


class TestImports:
    """What only looks at manifests and results must not wait seconds for torch."""

    def test_packages_load_no_torch(self) -> None:
        python(
            "import sys, benchmark, benchmark.manifest, benchmark.records, benchmark.registry\n"
            "import benchmark.runs.plan, benchmark.images.store\n"
            "import leaderboard, leaderboard.results, leaderboard.board, leaderboard.render\n"
            "assert not {'torch', 'torchvision'} & set(sys.modules)"
        )

    def test_every_help_and_manifest_show_load_no_torch(self) -> None:
        code = """
import sys, click
from htbench.cli.main import htbench

def names(group, path=()):
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(None):
            yield from names(group.get_command(None, name), (*path, name))

def run(*arguments):
    try:
        htbench.main(list(arguments), "htbench", standalone_mode=False)
    except SystemExit as end:
        assert not end.code, arguments

for path in list(names(htbench)):
    run(*path, "--help")
assert not {"torch", "pandas", "pyarrow"} & set(sys.modules), "a help page needs click only"
run("manifest", "show", "icons@1.0")
run("list", "suites")
assert not {"torch", "torchvision"} & set(sys.modules)
"""
        out = python(code)
        assert "Usage: htbench manifest show" in out
        assert "outline+solid-color" in out

    def test_arrays_are_what_they_say(self, mini: Manifest) -> None:
        samples = mini.samples("solid", "test")
        assert samples.labels.dtype == np.int64
        assert mini.seen_mask(mini.tasks[0]).tolist() == [False, True, True, True, False]
