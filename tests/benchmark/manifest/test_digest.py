"""The digest of a manifest covers its content, and not how its two files encode it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.manifest.manifest import Manifest, canonical_digest
from benchmark.manifest.read import read_manifest

# A shared machine may delay any example, and a test leaves nothing on disk.
PROPERTY = settings(deadline=None, database=None, max_examples=25)


class TestDigest:
    @PROPERTY
    @given(order=st.permutations(range(90)))
    def test_row_order_does_not_count(self, mini: Manifest, order: list[int]) -> None:
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
    def test_parquet_encoding_does_not_count(
        self, mini: Manifest, tmp_path_factory: pytest.TempPathFactory, options: Any, kind: Any
    ) -> None:
        folder = tmp_path_factory.mktemp("encoded")
        (folder / "manifest.toml").write_bytes((mini.root / "manifest.toml").read_bytes())
        columns = {n: pc.cast(mini.table[n], kind) for n in reversed(mini.table.column_names)}
        pq.write_table(pa.table(columns), folder / "images.parquet", **options)
        assert read_manifest(folder).digest == mini.digest

    def test_key_order_comments_and_line_endings_of_the_toml_do_not_count(
        self, draft: Any, mini: Manifest
    ) -> None:
        draft.document = dict(reversed(draft.document.items()))
        path = draft.write() / "manifest.toml"
        path.write_bytes(b"# a comment\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert read_manifest(draft.root).digest == mini.digest

    def test_pixels_count_by_their_checksums_only(self, draft: Any, mini: Manifest) -> None:
        draft.rows[0]["image"] = {"bytes": b"other", "path": None}
        assert draft.read().digest == mini.digest

    @PROPERTY
    @given(
        position=st.integers(0, 89),
        column=st.sampled_from(["image_id", "domain", "class", "split", "path", "sha256", "group"]),
        data=st.data(),
    )
    def test_every_value_of_every_row_counts(
        self, mini: Manifest, position: int, column: str, data: st.DataObject
    ) -> None:
        values = mini.table[column].to_pylist()
        values[position] = data.draw(st.sampled_from([None, values[position] + "x", "\ufffd"]))
        index = mini.table.column_names.index(column)
        table = mini.table.set_column(index, column, pa.array(values, pa.string()))
        assert canonical_digest(mini.document, table) != mini.digest

    def test_a_missing_column_counts(self, mini: Manifest) -> None:
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
        ids=[
            "class order",
            "steps",
            "momentum",
            "source",
            "model",
            "augmentation",
            "seen",
            "task order",
            "terms",
        ],
    )
    def test_every_part_of_the_document_counts(
        self, draft: Any, mini: Manifest, change: Callable[[Any], object]
    ) -> None:
        change(draft.document)
        assert draft.read().digest != mini.digest

    def test_the_digest_matches_its_definition(self, mini: Manifest) -> None:
        """An independent implementation: a changed definition would orphan every result."""
        text = "htbench manifest 1\n" + json.dumps(
            mini.document, sort_keys=True, separators=(",", ":")
        )
        frame = mini.table.to_pandas().sort_values("image_id")
        for column in ("image_id", "domain", "class", "split", "path", "sha256", "group"):
            text += f"\n\n{column}\n" + "\n".join(frame[column])
        assert mini.digest == hashlib.sha256(text.encode()).hexdigest()

    def test_the_missing_classes_of_a_task_count(self, draft: Any) -> None:
        before = draft.read().digest
        draft.document["tasks"][0]["missing"] = ["airplane", "star"]
        assert draft.read().digest != before
