"""Reading the two files of a manifest: TOML and Parquet that may be damaged or hostile."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from benchmark.errors import ManifestError
from benchmark.manifest.read import MAX_TOML_BYTES, read_manifest


@pytest.mark.parametrize("name", ["manifest.toml", "images.parquet"])
def test_a_missing_file_is_named(draft: Any, name: str) -> None:
    (draft.write() / name).unlink()
    with pytest.raises(ManifestError, match=f"{name} does not exist"):
        read_manifest(draft.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"format = ", "is not valid TOML"),
        (b"title = '\xff'", "is not valid TOML"),
        (b"a = " + b"[" * 100_000, "is not valid TOML"),
        (b"a = " + b"1" * 5000, "is not valid TOML"),
        (b"when = 2024-01-01", r"the value datetime\.date\(2024, 1, 1\) is not allowed"),
        (b"at = 07:30:00", "is not allowed"),
        (b"#" * (MAX_TOML_BYTES + 1), "is larger than 4194304 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_a_file_that_is_not_plain_toml(draft: Any, text: bytes, message: str) -> None:
    (draft.write() / "manifest.toml").write_bytes(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(draft.root)


class TestImages:
    """The Parquet file and its columns."""

    @pytest.mark.parametrize("column", ["image_id", "domain", "class", "split", "path"])
    def test_a_missing_column_is_named(self, draft: Any, column: str) -> None:
        draft.write(draft.table().drop_columns([column]))
        with pytest.raises(ManifestError, match=rf"missing the columns {column}"):
            read_manifest(draft.root)

    def test_embedded_images_need_checksums_for_the_digest(self, draft: Any) -> None:
        draft.write(draft.table().drop_columns(["sha256"]))
        with pytest.raises(ManifestError, match="every embedded image needs a sha256"):
            read_manifest(draft.root)

    def test_images_in_a_folder_need_no_checksums(self, draft: Any) -> None:
        draft.document["images"] = "folder"
        draft.write(draft.table().drop_columns(["sha256"]))
        assert "sha256" not in read_manifest(draft.root).table.column_names

    def test_a_column_of_another_type(self, draft: Any) -> None:
        table = draft.table()
        draft.write(table.set_column(3, "split", pa.array([1] * table.num_rows)))
        with pytest.raises(
            ManifestError, match="column split has type int64; it must contain strings"
        ):
            read_manifest(draft.root)

    def test_the_same_column_twice(self, draft: Any) -> None:
        table = draft.table()
        draft.write(table.append_column("path", table["path"]))
        with pytest.raises(ManifestError, match="more than one column named path"):
            read_manifest(draft.root)

    def test_text_that_is_not_utf8(self, draft: Any) -> None:
        table = draft.table()
        paths = pa.array([b"\xff\xfe"] * table.num_rows).cast(pa.binary()).view(pa.string())
        draft.write(table.set_column(4, "path", paths))
        with pytest.raises(ManifestError, match=r"not a readable Parquet file: .*UTF8"):
            read_manifest(draft.root)

    def test_a_file_that_is_not_parquet(self, draft: Any) -> None:
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
        monkeypatch.setattr("benchmark.manifest.read.MAX_IMAGES", 10)
        with pytest.raises(ManifestError, match="more than 10 rows"):
            draft.read()


@pytest.mark.parametrize("name", ["image_id", "class", "path"])
@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": True},
        {"use_dictionary": False},
        {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
    ],
    ids=["dictionary", "plain", "prefixes"],
)
def test_a_value_of_any_length_is_refused_before_it_is_repeated(
    draft: Any, name: str, options: dict[str, Any]
) -> None:
    """A few kilobytes on disk, which a reader would turn into gigabytes."""
    table = draft.table()
    place = table.column_names.index(name)
    if "column_encoding" in options:
        options = options | {"column_encoding": {name: options["column_encoding"]}}
    long = pa.array(["x" * 300_000] * table.num_rows)
    root = draft.write(table.set_column(place, name, long), compression="zstd", **options)
    with pytest.raises(ManifestError, match=r"longer than 1000 bytes|DELTA_BYTE_ARRAY") as error:
        read_manifest(root)
    assert len(str(error.value)) < 500
