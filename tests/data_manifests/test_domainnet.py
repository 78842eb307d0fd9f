"""domainnet@1.0 has the official splits and documented tasks, and its builder writes it."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest, pinned_digests
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite
from data_manifests.builders import domainnet, parts

DATA_SET = packaged_manifests() / "domainnet"
FOLDER = DATA_SET / "1.0"
# Rows of the official lists, train and test.
COUNTS = {
    "clipart": (33_525, 14_604),
    "infograph": (36_023, 15_582),
    "painting": (50_416, 21_850),
    "real": (120_906, 52_041),
    "sketch": (48_212, 20_916),
}
TASKS = [
    f"{source}-{target}" for source in ("real", "sketch") for target in COUNTS if target != source
]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_manifest("domainnet@1.0")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_parquet(FOLDER / "images.parquet")


class TestImages:
    def test_counts(self, manifest: Manifest) -> None:
        assert manifest.table.num_rows == 414_075
        assert [domain.name for domain in manifest.domains] == list(COUNTS)
        for domain, (train, test) in COUNTS.items():
            assert len(manifest.samples(domain, "train").ids) == train
            assert len(manifest.samples(domain, "test").ids) == test

    def test_rows_follow_from_paths(self, rows: pd.DataFrame) -> None:
        assert list(rows) == ["image_id", "domain", "class", "split", "path"]
        assert rows["image_id"].is_monotonic_increasing
        assert (rows["path"] == rows["image_id"] + ".jpg").all()
        stems = rows["domain"] + "/" + rows["class"] + "/" + rows["domain"] + "_"
        assert all(p.startswith(s) for p, s in zip(rows["path"], stems, strict=True))

    def test_file_names_number_the_classes_in_the_official_order(
        self, manifest: Manifest, rows: pd.DataFrame
    ) -> None:
        """In ``clipart/angel/clipart_005_000018.jpg`` 005 is the official label plus one."""
        numbers = rows["path"].str.slice(-14, -11).astype(int)
        labels = rows["class"].map({name: i for i, name in enumerate(manifest.classes)})
        assert (numbers == labels + 1).all()

    def test_only_two_cells_are_empty(self, manifest: Manifest) -> None:
        empty = [
            (domain, split, manifest.classes[i])
            for domain in COUNTS
            for split in ("train", "test")
            for i in np.flatnonzero(
                np.bincount(manifest.samples(domain, split).labels, minlength=345) == 0
            )
        ]
        assert empty == [("painting", "train", "t-shirt"), ("painting", "test", "syringe")]


class TestManifest:
    def test_digest_is_pinned(self, manifest: Manifest) -> None:
        assert manifest.digest == pinned_digests()["domainnet@1.0"]

    def test_classes_are_in_the_official_order(self, manifest: Manifest) -> None:
        """The order is almost alphabetical, so check known positions."""
        assert len(manifest.classes) == 345
        assert list(manifest.classes) != sorted(manifest.classes)
        assert list(manifest.classes) != sorted(manifest.classes, key=str.lower)
        places = {
            name: manifest.classes.index(name) for name in ("aircraft_carrier", "axe", "zigzag")
        }
        assert places == {"aircraft_carrier": 0, "axe": 11, "zigzag": 344}
        assert manifest.classes.index("t-shirt") == 327
        assert manifest.classes.index("cello") < manifest.classes.index("cell_phone")

    def test_real_train_is_marked_reconstructed_and_quickdraw_explained(
        self, manifest: Manifest
    ) -> None:
        lists = manifest.document["lists"]
        assert {(e["domain"], e["split"]): e["images"] for e in lists} == {
            (domain, split): counts[index]
            for domain, counts in COUNTS.items()
            for index, split in enumerate(("train", "test"))
        }
        assert [(e["domain"], e["split"]) for e in lists if e["reconstructed"]] == [
            ("real", "train")
        ]
        assert "quickdraw, is not in version 1.0" in " ".join(
            manifest.document["description"].split()
        )

    def test_all_lists_but_one_are_the_official_ones(self, manifest: Manifest) -> None:
        for entry in manifest.document["lists"]:
            name = f"{entry['domain']}_{entry['split']}"
            if entry["reconstructed"]:
                assert domainnet.LISTS[f"{name}.reconstructed"] != entry["sha256"]
            else:
                assert domainnet.LISTS[name] == entry["sha256"]

    def test_archives_have_size_and_checksum(self, manifest: Manifest) -> None:
        archives = [e for e in manifest.document["mirrors"] if e["address"].endswith(".zip")]
        names = [Path(entry["address"]).stem for entry in archives]
        assert names == list(COUNTS)
        assert sum(entry["bytes"] for entry in archives) == 17_984_967_574
        assert all(len(entry["sha256"]) == 64 for entry in archives)

    def test_recipes_state_who_chose_them(self, manifest: Manifest) -> None:
        office_home = load_manifest("office-home@1.0").document
        assert all(
            manifest.document[table]["chosen"].startswith("This suite's own choice")
            for table in ("source", "recipe")
        )
        assert all(manifest.document[t] == office_home[t] for t in ("model", "transforms"))
        rates = [{**d["recipe"], "chosen": ""} for d in (manifest.document, office_home)]
        assert rates[0] == rates[1]


class TestTasks:
    def test_ids(self, manifest: Manifest) -> None:
        assert [task.id for task in manifest.tasks] == TASKS
        assert load_suite("domainnet").tasks == tuple(TASKS)
        for task in manifest.tasks:
            assert task.id == f"{task.sources[0]}-{task.target}"

    @pytest.mark.parametrize("task_id", TASKS)
    def test_seen_classes_follow_the_documented_rule(
        self, manifest: Manifest, task_id: str
    ) -> None:
        task = manifest.task(task_id)

        def key(name: str) -> str:
            text = f"domainnet/1.0/seen/{task.sources[0]}/{name}"
            return hashlib.sha256(text.encode()).hexdigest()

        first = set(sorted(manifest.classes, key=key)[:172])
        if task.target == "painting":
            first -= {"t-shirt"}
        assert list(task.seen) == [name for name in manifest.classes if name in first]

    @pytest.mark.parametrize("task_id", ["real-painting", "sketch-painting"])
    def test_t_shirt_is_missing_in_painting(self, manifest: Manifest, task_id: str) -> None:
        task = manifest.task(task_id)
        label = manifest.classes.index("t-shirt")
        assert not manifest.seen_mask(task)[label]
        assert (manifest.samples("painting", "test").labels == label).any()

    @pytest.mark.parametrize("task_id", ["real-painting", "sketch-painting"])
    def test_syringe_counts_in_neither_group_in_painting(
        self, manifest: Manifest, task_id: str
    ) -> None:
        mask = manifest.seen_mask(manifest.task(task_id))
        present = np.bincount(manifest.samples("painting", "test").labels, minlength=345) > 0
        assert not present[manifest.classes.index("syringe")]
        assert int((mask & present).sum() + (~mask & present).sum()) == 344

    def test_a_drawn_class_without_training_images_is_missing_there(self) -> None:
        """Neither published draw includes t-shirt, so check the rule on a small example."""
        classes = [f"class-{i}" for i in range(172)]  # as many as are drawn
        images = [
            parts.Image(f"{domain}/{name}/1.jpg", "train")
            for domain in COUNTS
            for name in classes
            if (domain, name) != ("painting", "class-7")
        ]
        images.append(parts.Image("painting/class-7/2.jpg", "test"))
        seen = {task.id: task.seen for task in domainnet.make_tasks(images, classes)}
        assert seen["real-clipart"] == classes
        assert seen["real-painting"] == [name for name in classes if name != "class-7"]


class TestLists:
    @pytest.mark.parametrize("task_id", TASKS)
    def test_they_agree_with_the_rows(
        self, manifest: Manifest, rows: pd.DataFrame, task_id: str
    ) -> None:
        task = manifest.task(task_id)
        label = pd.Series(range(345), index=manifest.classes)
        target = rows[rows["domain"] == task.target]
        for split in ("train", "test"):
            part = target[target["split"] == split]
            if split == "train":
                part = part[part["class"].isin(task.seen)]
            path = FOLDER / "lists" / f"{task_id}_{split}.txt.gz"
            lines = pd.read_csv(path, sep=" ", names=["path", "label"])
            assert lines["path"].is_monotonic_increasing
            assert sorted(part["path"]) == lines["path"].tolist()
            names = lines["path"].str.split("/").str[1]
            assert (names.map(label) == lines["label"]).all()

    def test_there_are_no_others(self) -> None:
        names = {f"{task}_{split}.txt.gz" for task in TASKS for split in ("train", "test")}
        assert {path.name for path in (FOLDER / "lists").iterdir()} == names


class TestBuilder:
    def test_a_rebuild_gives_the_published_manifest(
        self, manifest: Manifest, rows: pd.DataFrame
    ) -> None:
        trained = rows[rows["split"] == "train"].drop_duplicates(["domain", "class"])
        images = [parts.Image(path, "train") for path in trained["path"]]
        tasks = domainnet.make_tasks(images, manifest.classes)
        text = parts.manifest_text("domainnet", manifest.classes, tasks)
        assert text == (FOLDER / "manifest.toml").read_text("utf-8")


class TestReadme:
    def test_its_numbers_match_the_files(self, manifest: Manifest) -> None:
        readme = (DATA_SET / "README.md").read_text("utf-8")
        lines = []
        for domain in COUNTS:
            line = f"| {domain} |"
            for split in ("train", "test"):
                counts = np.bincount(manifest.samples(domain, split).labels, minlength=345)
                line += f" {counts.sum()} ({counts.min()} to {counts.max()}) |"
            lines.append(line)
        for task in manifest.tasks:
            mask = manifest.seen_mask(task)
            parts = [manifest.samples(task.target, split).labels for split in ("train", "test")]
            sizes = [str(m[part].sum()) for part in parts for m in (mask, ~mask)]
            lines.append(f"| `{task.id}` | {' | '.join(sizes)} |")
        assert [line for line in lines if line not in readme] == []

    def test_its_pandas_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        readme = (DATA_SET / "README.md").read_text("utf-8")
        monkeypatch.chdir(DATA_SET.parents[1])
        names: dict[str, pd.DataFrame] = {}
        exec(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)[0], names)
        assert len(names["rows"]) == 414_075
        assert len(names["task"]) == 15_832


def test_all_manifests_together_stay_small() -> None:
    folders = packaged_manifests().glob("*/*/manifest.toml")
    files = [path for toml in folders for path in toml.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12 << 20


def test_a_large_manifest_is_read_in_seconds() -> None:
    """It takes about one second, because the checks of 414,075 rows work on whole columns."""
    start = time.process_time()
    load_manifest("domainnet@1.0")
    assert time.process_time() - start < 10
