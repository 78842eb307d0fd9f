"""office-home@1.0 has the published splits and tasks, and its builder writes these files."""

from __future__ import annotations

import gzip
import hashlib
import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.errors import DataError
from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest, pinned_digests
from benchmark.manifest.manifest import Manifest, Task
from benchmark.manifest.suite import load_suite
from data_manifests.builders import office_home, parts

DATA_SET = packaged_manifests() / "office-home"
FOLDER = DATA_SET / "1.0"
DOMAINS = ["Art", "Clipart", "Product", "Real_World"]
# Train and test images of each domain in the released lists.
COUNTS = {
    "Art": (1677, 750),
    "Clipart": (3035, 1330),
    "Product": (3078, 1361),
    "Real_World": (3022, 1335),
}
# Train seen, train missing, test seen and test missing, as published.
PUBLISHED = {
    "Art-Clipart": (1471, 1564, 646, 684),
    "Art-Product": (1265, 1813, 561, 800),
    "Art-Real_World": (1413, 1609, 624, 711),
    "Real_World-Art": (857, 820, 379, 371),
    "Real_World-Clipart": (1493, 1542, 652, 678),
    "Real_World-Product": (1459, 1619, 645, 716),
}
PAIRS = list(permutations(DOMAINS, 2))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_manifest("office-home@1.0")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_parquet(FOLDER / "images.parquet")


def group_sizes(manifest: Manifest, task: Task) -> tuple[int, ...]:
    mask = manifest.seen_mask(task)
    labels = [manifest.samples(task.target, split).labels for split in ("train", "test")]
    return tuple(int(m[part].sum()) for part in labels for m in (mask, ~mask))


class TestImages:
    def test_counts(self, manifest: Manifest) -> None:
        assert manifest.table.num_rows == 15_588
        assert [domain.name for domain in manifest.domains] == DOMAINS
        for domain, (train, test) in COUNTS.items():
            assert len(manifest.samples(domain, "train").ids) == train
            assert len(manifest.samples(domain, "test").ids) == test

    def test_seven_tenths_of_each_class_and_domain_are_training_images(
        self, rows: pd.DataFrame
    ) -> None:
        cells = rows.groupby(["domain", "class", "split"]).size().unstack("split")
        assert len(cells) == 4 * 65
        n = cells["train"] + cells["test"]
        assert (cells["train"] == (0.7 * n).astype(int)).all()  # in floats 0.7 x 90 is below 63

    def test_rows_follow_from_paths(self, rows: pd.DataFrame) -> None:
        assert list(rows) == ["image_id", "domain", "class", "split", "path"]
        assert rows["image_id"].is_monotonic_increasing
        assert (rows["path"] == rows["image_id"] + ".jpg").all()
        parts = rows["path"].str.split("/", expand=True)
        assert (parts[0] == rows["domain"]).all()
        assert (parts[1] == rows["class"]).all()
        assert parts.shape[1] == 3


class TestManifest:
    def test_digest_is_pinned(self, manifest: Manifest) -> None:
        assert manifest.digest == pinned_digests()["office-home@1.0"]

    def test_classes_are_in_the_order_of_image_folders(
        self, manifest: Manifest, rows: pd.DataFrame
    ) -> None:
        assert list(manifest.classes) == sorted(set(rows["class"]))
        assert manifest.classes[0] == "Alarm_Clock"
        assert manifest.classes.index("TV") < manifest.classes.index("Table")

    def test_folder_names_of_copies(self, manifest: Manifest) -> None:
        folders = {domain.name: domain.folders for domain in manifest.domains}
        assert folders["Real_World"] == (
            "Real_World",
            "Real World",
            "RealWorld",
            "Realworld",
            "Real",
        )
        assert all(name in folders[name] for name in DOMAINS)

    def test_recipe_of_the_protocol(self, manifest: Manifest) -> None:
        document = manifest.document
        assert document["model"] == {
            "name": "resnet50",
            "weights": "ResNet50_Weights.IMAGENET1K_V1",
        }
        assert {k: v for k, v in document["recipe"].items() if k != "chosen"} == {
            "steps": 20 * 500,
            "batch_size": 64,
            "head_lr": 1e-3,
            "backbone_lr": 1e-4,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
        }
        crop, flip, jitter, grey = document["transforms"]["train"]
        assert (crop["op"], crop["scale"]) == ("random-resized-crop", [0.7, 1.0])
        assert flip == {"op": "horizontal-flip", "p": 0.5}
        assert jitter == {"op": "color-jitter"} | dict.fromkeys(
            ("brightness", "contrast", "saturation", "hue"), 0.3
        )
        assert grey == {"op": "grayscale", "p": 0.1}
        assert manifest.image_size == 256
        assert manifest.document["transforms"]["size"] == 224

    def test_source_recipe_states_who_chose_it(self, manifest: Manifest) -> None:
        assert manifest.document["source"]["chosen"].startswith("This suite's own choice")


class TestTasks:
    @pytest.mark.parametrize("task_id", PUBLISHED)
    def test_published_counts(self, manifest: Manifest, task_id: str) -> None:
        task = manifest.task(task_id)
        assert task_id == f"{task.sources[0]}-{task.target}"
        assert len(task.seen) == 30
        assert group_sizes(manifest, task) == PUBLISHED[task_id]

    def test_published_seen_classes_depend_on_the_source_only(self, manifest: Manifest) -> None:
        seen = {manifest.task(task_id).seen for task_id in PUBLISHED}
        assert len(seen) == 2
        for names in seen:
            assert list(names) == [name for name in manifest.classes if name in names]

    @pytest.mark.parametrize("source", DOMAINS)
    @pytest.mark.parametrize("draw", [1, 2, 3])
    def test_draws_follow_the_documented_rule(
        self, manifest: Manifest, source: str, draw: int
    ) -> None:
        def key(name: str) -> str:
            text = f"office-home/1.0/seen/{source}/draw{draw}/{name}"
            return hashlib.sha256(text.encode()).hexdigest()

        first = set(sorted(manifest.classes, key=key)[:30])
        for target in set(DOMAINS) - {source}:
            task = manifest.task(f"{source}-{target}.draw{draw}")
            assert (task.sources, task.target) == ((source,), target)
            assert list(task.seen) == [name for name in manifest.classes if name in first]

    def test_twelve_draws_differ(self, manifest: Manifest) -> None:
        tasks = [task for task in manifest.tasks if ".draw" in task.id]
        assert len(tasks) == 36
        assert len({task.seen for task in tasks}) == 12

    def test_suites(self, manifest: Manifest) -> None:
        assert load_suite("office-home").tasks == tuple(PUBLISHED)
        assert load_suite("office-home-all").tasks == tuple(
            f"{source}-{target}.draw{draw}" for source, target in PAIRS for draw in (1, 2, 3)
        )
        suites = [*load_suite("office-home").tasks, *load_suite("office-home-all").tasks]
        assert suites == [task.id for task in manifest.tasks]


class TestLists:
    def test_they_are_the_six_published_tasks(self) -> None:
        names = {f"{task}_{split}.txt" for task in PUBLISHED for split in ("train", "test")}
        assert {path.name for path in (FOLDER / "lists").iterdir()} == names

    @pytest.mark.parametrize("task_id", PUBLISHED)
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_they_agree_with_the_rows(
        self, manifest: Manifest, rows: pd.DataFrame, task_id: str, split: str
    ) -> None:
        task = manifest.task(task_id)
        part = rows[(rows["domain"] == task.target) & (rows["split"] == split)]
        if split == "train":
            part = part[part["class"].isin(task.seen)]
        part = part.sort_values("path")
        labels = part["class"].map({name: i for i, name in enumerate(manifest.classes)})
        expected = [f"{p} {label}" for p, label in zip(part["path"], labels, strict=True)]
        text = (FOLDER / "lists" / f"{task_id}_{split}.txt").read_text("utf-8")
        assert text.splitlines() == expected


class TestBuilder:
    def test_a_rebuild_gives_the_published_files(
        self, manifest: Manifest, rows: pd.DataFrame, tmp_path: Path
    ) -> None:
        images = [parts.Image(*row) for row in rows[["path", "split"]].itertuples(index=False)]
        published = {s: manifest.task(f"{s}-Clipart").seen for s in ("Art", "Real_World")}
        files = office_home.build_files(images[::-1], published)
        images_file = files.pop("images.parquet")
        assert {
            path.relative_to(FOLDER).as_posix(): path.read_bytes()
            for path in FOLDER.rglob("*")
            if path.is_file() and path.suffix not in (".parquet", ".json")
        } == files
        (tmp_path / "images.parquet").write_bytes(images_file)  # bytes depend on pyarrow
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "images.parquet"), rows)

    def test_other_facts_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "list.txt.gz").write_bytes(gzip.compress(b"Art/Bed/00001.jpg 0\n"))
        with pytest.raises(
            DataError, match="but the file that this manifest was built from has 0000"
        ):
            parts.read_fact(tmp_path, "list.txt.gz", "0" * 64)
        (tmp_path / "list.txt.gz").write_bytes(b"no gzip")
        with pytest.raises(DataError, match=r"cannot read .*list\.txt\.gz"):
            parts.read_fact(tmp_path, "list.txt.gz", "0" * 64)

    def test_wrong_label_is_refused(self) -> None:
        with pytest.raises(
            DataError, match="label 1 means class 'Bike', but the path is of class 'Bed'"
        ):
            parts.read_list("Art/Bed/00001.jpg 1\n", "train", ["Bed", "Bike"])


class TestReadme:
    def test_its_numbers_match_the_files(self, manifest: Manifest) -> None:
        readme = (DATA_SET / "README.md").read_text("utf-8")
        lines = [f"| `{t}` | {' | '.join(map(str, n))} |" for t, n in PUBLISHED.items()]
        for domain in DOMAINS:
            line = f"| {domain} |"
            for split in ("train", "test"):
                counts = np.bincount(manifest.samples(domain, split).labels)
                line += f" {counts.sum()} ({counts.min()} to {counts.max()}) |"
            lines.append(line)
        assert [line for line in lines if line not in readme] == []

    def test_its_pandas_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        readme = (DATA_SET / "README.md").read_text("utf-8")
        monkeypatch.chdir(DATA_SET.parents[1])
        names: dict[str, pd.DataFrame] = {}
        exec(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)[0], names)
        assert len(names["rows"]) == 15_588
