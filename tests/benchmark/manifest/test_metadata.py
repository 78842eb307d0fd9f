"""Reading metadata.csv: every rule of its columns and cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.manifest.expand import expand_recipe
from benchmark.manifest.metadata import COLUMNS, read_metadata
from benchmark.manifest.recipe import ManifestRecipe
from tests.benchmark.manifest.cameras import HEADER, Cameras, one_task


def cell(name: str, value: str, row: int = 0) -> Callable[[Cameras], None]:
    """Change a cell."""
    return lambda cameras: cameras.rows[row].update({name: value})


def same(name: str) -> Callable[[Cameras], None]:
    """Repeat the value of another row."""
    return lambda cameras: cameras.rows[3].update({name: cameras.rows[1][name]})


class TestReadMetadata:
    """Every error is one sentence."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (same("image_id"), "column image_id must be unique, but has duplicates: '"),
            (same("filename"), "column filename must be unique, but has duplicates: '"),
            *[
                (
                    cell(name, value, row=4),
                    f"column {name} must not be empty; invalid in 1 of 120 rows, "
                    f"first in row 5: '{value}'",
                )
                for name in COLUMNS
                for value in ("", "NaN")
            ],
            (
                cell("datetime", "2013-06-05"),
                "column datetime must be a time such as 2013-06-05 05",
            ),
            (cell("datetime", "05/06/2013 12:00"), "column datetime must be a time"),
            (cell("datetime", "2013-06-05 25:00:00"), "column datetime must be a time"),
            (
                cell("datetime", "2013-02-30 12:00:00.000"),
                "column datetime must be a valid date; invalid in 1",
            ),
            (
                cell("datetime", "0000-01-01 12:00:00"),
                "column datetime must be a valid date; invalid in 1",
            ),
            (
                cell("y", "182"),
                "column y must be a class index from 0 to 181; invalid in 1 of 120 rows",
            ),
            (cell("y", "99999"), "column y must be a class index from 0 to 181"),
            (cell("y", "1.0"), "column y must be a whole number"),
            (cell("y", "-1"), "column y must be a whole number"),
            (cell("y", "1" * 40), "column y must be a whole number"),
            (
                cell("category_id", "9"),
                "class 0 ('empty') has category_id 9, but the recipe expects 0",
            ),
            (cell("split", "training"), "column split must be one of id_test, id_val, test, train"),
            (cell("location_remapped", "323"), "location_remapped must be a location of the data"),
            (
                cell("split", "test"),
                "has images in the split 'test', but the recipe assigns it to train",
            ),
            (cell("filename", "../x.jpg"), "column filename must be a file name"),
            (cell("filename", "a\x1b.jpg"), "column filename must be a file name"),
            (cell("seq_id", "a b"), "column seq_id must be a file name"),
        ],
    )
    def test_rule_of_a_cell(
        self, cameras: Cameras, tmp_path: Path, change: Callable[[Cameras], None], message: str
    ) -> None:
        one_task(cameras)
        change(cameras)
        with pytest.raises(DataError) as error:
            cameras.expand(tmp_path)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", COLUMNS)
    def test_a_missing_column(self, cameras: Cameras, tmp_path: Path, name: str) -> None:
        path = cameras.write(tmp_path / "m.csv", [column for column in HEADER if column != name])
        with pytest.raises(
            DataError, match=rf"missing the columns '{name}'; give the data set's metadata\.csv"
        ):
            read_metadata(path, cameras.recipe, allow_unknown=True)

    def test_only_the_columns_of_the_rule_are_needed(
        self, cameras: Cameras, tmp_path: Path
    ) -> None:
        one_task(cameras)
        full = cameras.expand(tmp_path)
        path = cameras.write(tmp_path / "m.csv", COLUMNS[::-1])
        short = expand_recipe(
            cameras.recipe, read_metadata(path, cameras.recipe, allow_unknown=True)
        )
        assert short.document == full.document

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is missing the columns"),
            (b"\x89PNG\r\n\x1a\n\x00", "its first line is not text"),
            (b'{"split": 1}', "is missing the columns"),
            (b"split,split", "is missing the columns"),
            (",".join([*HEADER, "y"]).encode(), "more than one column named 'y'"),
            (",".join(HEADER).encode(), "has a header but no rows"),
            (",".join(HEADER).encode() + b"\n\n", "has a header but no rows"),
            (",".join(HEADER).encode() + b"\n1,2\n", "cannot parse .* as CSV"),
            (",".join(HEADER).encode() + b"\n" + b"\xff," * 10 + b"1\n", "cannot parse .* as CSV"),
        ],
    )
    def test_a_file_that_is_not_such_a_table(
        self, recipe: ManifestRecipe, tmp_path: Path, content: bytes, message: str
    ) -> None:
        path = tmp_path / "m.csv"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_metadata(path, recipe, allow_unknown=True)

    def test_a_file_other_than_the_published_one(self, cameras: Cameras, tmp_path: Path) -> None:
        path = cameras.write(tmp_path / "m.csv")
        with pytest.raises(DataError, match=r"MD5 .*, not ab4905ee40ac.*--allow-unknown-metadata"):
            read_metadata(path, cameras.recipe)

    def test_a_file_that_is_too_large(
        self, cameras: Cameras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("benchmark.manifest.metadata.MAX_METADATA_BYTES", 1 << 20)
        path = tmp_path / "m.csv"
        with path.open("wb") as file:
            file.truncate((1 << 20) + 1)
        with pytest.raises(DataError, match="larger than 1 MiB"):
            read_metadata(path, cameras.recipe)

    @pytest.mark.parametrize("path", ["/dev/zero", "no-such-file", "."])
    def test_a_path_that_is_not_a_file(self, recipe: ManifestRecipe, path: str) -> None:
        with pytest.raises(DataError, match="is not a file"):
            read_metadata(Path(path), recipe)
