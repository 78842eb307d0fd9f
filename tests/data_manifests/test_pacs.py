"""pacs@1.0 follows its documented rules, and its builder writes these files."""

from __future__ import annotations

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
from benchmark.manifest.suite import load_suite
from benchmark.method import TargetData
from data_manifests.builders.one_standard_error import Candidate, check_grid, choose
from data_manifests.builders.pacs import build, search
from leaderboard.published import published_rows, read_published
from leaderboard.rows import rows_of_table

DATA_SET = packaged_manifests() / "pacs"
FOLDER = DATA_SET / "1.0"
DOMAINS = ["art_painting", "cartoon", "photo", "sketch"]
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
IMAGES = {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}
DRAWS = {1: "", 2: ".draw2"}  # the end of a task's id


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def manifest():
    return load_manifest("pacs@1.0")


@pytest.fixture(scope="module")
def rows():
    return pd.read_parquet(FOLDER / "images.parquet")


def group_sizes(manifest, task):
    """Train seen, train missing, test seen and test missing."""
    mask = manifest.seen_mask(task)
    labels = [manifest.samples(task.target, split).labels for split in ("train", "test")]
    return tuple(int(m[part].sum()) for part in labels for m in (mask, ~mask))


class TestImages:
    def test_they_are_the_whole_data_set(self, rows):
        assert list(rows) == ["image_id", "domain", "class", "split", "path", "sha256", "group"]
        assert rows["domain"].value_counts().to_dict() == IMAGES
        assert len(rows) == rows["sha256"].nunique() == 9991
        assert rows["image_id"].is_monotonic_increasing
        assert (rows["path"].str.rpartition(".")[0] == rows["image_id"]).all()
        assert (rows["domain"] + "/" + rows["class"] == rows["path"].str.rpartition("/")[0]).all()

    def test_sketches_of_a_photo_are_a_group(self, rows):
        groups = rows.set_index("path")["group"]
        assert groups["sketch/giraffe/n02439033_12413-4.png"] == "sketch/giraffe/n02439033_12413"
        is_drawing = rows["path"].str.contains(r"^sketch/\w+/n\d+_\d+-\d+\.png$")
        assert (rows["group"] == rows["path"])[~is_drawing].all()
        photo = rows["image_id"].str.replace(r"-\d+$", "", regex=True)
        assert (rows["group"] == photo)[is_drawing].all()
        assert rows.groupby("group")["split"].nunique().max() == 1

    def test_the_split_follows_the_documented_rule(self, rows):
        for _, cell in rows.groupby(["domain", "class"]):
            sizes = cell.groupby("group").size()
            ordered = sizes[sorted(sizes.index, key=sha256)]
            before = ordered.cumsum() - ordered  # images of earlier groups
            train = set(ordered.index[before < len(cell) * 7 // 10])
            assert (cell["split"] == "train").tolist() == cell["group"].isin(train).tolist()

    def test_seven_tenths_are_rounded_down_exactly(self):
        images = build.split(f"photo/dog/{number}.jpg" for number in range(90))
        assert [image.split for image in images].count("train") == 63  # int(0.7 * 90) is 62


class TestManifest:
    def test_digest_is_pinned(self, manifest):
        assert manifest.digest == pinned_digests()["pacs@1.0"]

    def test_classes_are_in_the_order_of_image_folders(self, manifest):
        assert manifest.classes == CLASSES
        assert [domain.name for domain in manifest.domains] == DOMAINS

    def test_network_of_the_protocol(self, manifest):
        other = load_manifest(load_suite("icons-pretrained").manifest).document
        assert manifest.document["model"] == other["model"]
        assert manifest.document["transforms"] == other["transforms"] | {"size": 112}
        assert manifest.source_seeds == 3
        names = ("head_lr", "backbone_lr", "batch_size")
        assert [manifest.source_recipe[n] for n in names] == [other["source"][n] for n in names]


class TestTasks:
    def test_all_ordered_pairs_with_two_draws(self, manifest):
        assert [task.id for task in manifest.tasks] == [
            f"{source}-{target}{end}"
            for end in DRAWS.values()
            for source, target in permutations(DOMAINS, 2)
        ]

    @pytest.mark.parametrize("source", DOMAINS)
    @pytest.mark.parametrize("draw", DRAWS)
    def test_draws_follow_the_documented_rule(self, manifest, source, draw):
        ordered = sorted(
            CLASSES, key=lambda name: sha256(f"pacs/1.0/seen/{source}/draw{draw}/{name}")
        )
        for target in set(DOMAINS) - {source}:
            task = manifest.task(f"{source}-{target}{DRAWS[draw]}")
            assert (task.sources, task.target) == ((source,), target)
            assert list(task.seen) == sorted(ordered[:4])

    @pytest.mark.parametrize("source", DOMAINS)
    def test_the_two_draws_of_a_source_differ(self, manifest, source):
        assert len({task.seen for task in manifest.tasks if task.sources == (source,)}) == 2

    def test_suites(self, manifest):
        assert load_suite("pacs").tasks == tuple(
            f"{source}-{target}"
            for source in ("photo", "art_painting")
            for target in DOMAINS
            if target != source
        )
        assert sorted(load_suite("pacs-all").tasks) == sorted(task.id for task in manifest.tasks)
        for suite in map(load_suite, ("pacs", "pacs-all")):
            assert suite.manifest == manifest.reference
            assert suite.seeds == (0, 1, 2)

    def test_the_page_has_the_digests_of_the_published_source_models(self, manifest):
        page = (DATA_SET / "README.md").read_text()
        rows = rows_of_table(published_rows(read_published()), ["task", "seed", "source_digest"])
        of_pacs = {
            (manifest.task(row["task"]).sources[0], row["seed"]): row["source_digest"]
            for row in rows
            if row["task"] in {task.id for task in manifest.tasks}
        }
        assert len(of_pacs) == 6
        for (source, seed), digest in of_pacs.items():
            assert f"| `{source}` | {seed} | `{digest}` |" in page


class TestBuilder:
    def test_a_rebuild_gives_the_published_files(self, rows, tmp_path):
        shuffled = rows.sample(frac=1, random_state=0)
        built = build.build_files(dict(zip(shuffled["path"], shuffled["sha256"], strict=True)))
        assert built["manifest.toml"] == (FOLDER / "manifest.toml").read_bytes()
        (tmp_path / "images.parquet").write_bytes(built["images.parquet"])  # depends on pyarrow
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "images.parquet"), rows)
        assert len(built) == 2

    def test_another_list_is_refused(self, tmp_path):
        (tmp_path / "pacs_files.csv.gz").write_bytes(b"path,sha256\n")
        with pytest.raises(DataError, match=r"cannot read .*pacs_files\.csv\.gz"):
            build.build(tmp_path)


class TestSearch:
    def test_a_fifth_of_each_seen_class_is_held_out_in_whole_groups(self, manifest, rows):
        task = manifest.task("photo-sketch")
        held_out = search.held_out_ids(manifest, task)
        part = rows[(rows["domain"] == "sketch") & (rows["split"] == "train")]
        for name in task.seen:
            cell = part[part["class"] == name]
            chosen = cell[cell["image_id"].isin(held_out)]
            assert not set(chosen["group"]) & set(cell["group"][~cell["image_id"].isin(held_out)])
            last = max(chosen["group"], key=lambda group: -int(sha256(group), 16))
            assert len(chosen) >= len(cell) // 5 > (chosen["group"] != last).sum()
            kept = set(cell["group"]) - set(chosen["group"])
            assert max(map(sha256, kept)) < min(map(sha256, chosen["group"]))

    def test_outcomes_are_read_as_they_were_written(self):
        correct = [bool(i % 3) for i in range(13)]
        assert search.unpack(search.pack(correct), 13) == correct
        with pytest.raises(DataError, match="8 bits are recorded for 13 held-out images"):
            search.unpack("ff", 13)

    def test_only_tasks_that_all_candidates_have_finished_count(self, manifest):
        count = {t: len(search.held_out_ids(manifest, manifest.task(t))) for t in search.TASKS}
        runs = {}
        for run in search.planned():
            if run.task == search.TASKS[0]:
                right = {0.0027: 1.0, 0.0009: 1.0}.get(run.rate, 0.5)
            elif run.rate == 0.0243:
                right = 1.0
            else:
                continue
            n = count[run.task]
            correct = search.pack(image < right * n for image in range(n))
            runs[run] = search.Outcome("CPU", correct)
        rows = search.comparisons(manifest, runs)
        assert choose(rows).candidate == Candidate(0.0009, 100)
        assert "* 0.0009  100" in search.table(rows)
        check_grid(rows)

    def test_a_run_trains_on_kept_images_and_predicts_the_held_out_ones(
        self, draft, own_data, monkeypatch
    ):
        import torch

        manifest = draft.read()
        monkeypatch.setattr(search, "REFERENCE", str(manifest.root))
        search.train_source("outline")
        (file,) = (own_data / "pacs-search").iterdir()
        assert file == search.source_file(manifest, "outline")
        used = []
        rows = TargetData.rows
        monkeypatch.setattr(TargetData, "rows", lambda self, r: used.append(r) or rows(self, r))
        run = search.SearchRun("outline-solid", seed=0, steps=2, rate=0.01)
        first = search.outcome(run)
        kept, held_out = used  # the rows to train on, then those to predict
        assert sorted(torch.cat([kept, held_out]).tolist()) == list(range(9))
        assert len(held_out) == 3  # one of three images of each of three classes
        assert first == search.outcome(run)
        assert len(search.unpack(first.correct, 3)) == 3
        assert not any(search.unpack(search.outcome(run._replace(rate=1e20)).correct, 3))

    def test_the_recipe_is_the_choice_of_the_recorded_runs(self, manifest):
        runs = search.read_runs(Path(search.__file__).with_name("search.csv"))
        rows = search.comparisons(manifest, runs)
        check_grid(rows)
        assert choose(rows).candidate == (manifest.recipe["lr"], manifest.recipe["steps"])
        assert build.RECIPE.read_text("utf-8") == search.recipe_toml(manifest, runs)

    def test_without_a_finished_task_there_is_no_choice(self, manifest):
        with pytest.raises(DataError, match="continue the search"):
            search.comparisons(manifest, {})


class TestReadme:
    def test_its_numbers_match_the_files(self, manifest):
        readme = (DATA_SET / "README.md").read_text("utf-8")
        lines = []
        for task in manifest.tasks:
            if task.id in load_suite("pacs").tasks:
                cells = [f"`{task.id}`", ", ".join(task.seen), *group_sizes(manifest, task)]
                lines.append(f"| {' | '.join(map(str, cells))} |")
        for domain in DOMAINS:
            line = f"| {domain} |"
            for split in ("train", "test"):
                counts = np.bincount(manifest.samples(domain, split).labels)
                line += f" {counts.sum()} ({counts.min()} to {counts.max()}) |"
            lines.append(line)
        assert [line for line in lines if line not in readme] == []

    def test_its_shares_of_sketches(self, rows):
        readme = " ".join((DATA_SET / "README.md").read_text("utf-8").split())
        sketches = rows[rows["domain"] == "sketch"]
        photo = sketches["image_id"].str.replace(r"-\d+$", "", regex=True)
        by_path = sketches.groupby("class")["path"].transform(
            lambda paths: paths.map(sha256).rank() <= len(paths) * 7 // 10
        )
        shared = photo[~by_path].isin(photo[by_path]).mean()
        assert f"{100 * shared:.1f} % of the test sketches would" in readme
        photos = rows[rows["domain"] == "photo"]
        stem = photo[sketches["split"] == "test"].str.rpartition("/")[2]
        in_train = photos[photos["split"] == "train"]
        for part, text in (
            (photos, "of the test sketches show a photo that is in `photo`"),
            (in_train, "one that is a training image there"),
        ):
            share = stem.isin(part["image_id"].str.rpartition("/")[2]).mean()
            assert f"{100 * share:.1f} % {text}" in readme

    def test_its_pandas_runs(self, monkeypatch):
        readme = (DATA_SET / "README.md").read_text("utf-8")
        monkeypatch.chdir(DATA_SET.parents[1])
        names = {}
        exec(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)[0], names)
        assert len(names["rows"]) == 9991
