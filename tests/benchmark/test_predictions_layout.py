"""Reading the benchmark's own predictions files by the places of their logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import predictions_layout
from benchmark.predictions_layout import PredictionsLayout
from benchmark.records import read_predictions, write_predictions


def _ids(count: int) -> list[str]:
    return [f"image-{i}" for i in range(count)]


def _layout(samples: int, classes: int) -> PredictionsLayout:
    layout = PredictionsLayout.of(_ids(samples), classes)
    assert layout is not None
    return layout


@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (720, 65), (5000, 65)])  # 1 MiB are a page
def test_logits_are_those_that_parsing_the_file_gives(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    layout, path = _layout(*shape), tmp_path / "predictions.parquet"
    generator = np.random.default_rng(0)
    special = (0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(np.float32).max, 1e-45)
    for value in (None, *special):
        logits = generator.normal(0, 10, shape).astype(np.float32)
        if value is not None:
            logits[0, 0] = value
        write_predictions(path, _ids(shape[0]), logits)
        read = layout.logits(path.read_bytes())
        assert read is not None
        assert read.tobytes() == read_predictions(path)[1].tobytes() == logits.tobytes()


class TestOtherFiles:
    """They have no logits at the expected places, and must be parsed."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "predictions.parquet"

    def test_other_samples_or_classes(self, path: Path) -> None:
        layout = _layout(20, 5)
        same_length = [name.replace("image", "other") for name in _ids(20)]
        for ids, classes in ((same_length, 5), (_ids(20)[::-1], 5), (_ids(21), 5), (_ids(20), 6)):
            write_predictions(path, ids, np.zeros((len(ids), classes), np.float32))
            assert layout.logits(path.read_bytes()) is None

    def test_written_by_another_program(self, path: Path) -> None:
        logits = pa.array(np.ones((20, 5), np.float32).tolist(), pa.list_(pa.float32()))
        pq.write_table(pa.table({"sample_id": _ids(20), "logits": logits}), path)
        assert _layout(20, 5).logits(path.read_bytes()) is None

    def test_only_logits_have_statistics(self, path: Path) -> None:
        """Without a number, a page has no statistics, and all that follows has another place."""
        write_predictions(path, _ids(20), np.full((20, 5), np.nan, np.float32))
        assert _layout(20, 5).logits(path.read_bytes()) is None

    def test_any_changed_byte_outside_of_logits_and_statistics(self, path: Path) -> None:
        layout = _layout(20, 5)
        write_predictions(path, _ids(20), np.ones((20, 5), np.float32))
        content = path.read_bytes()
        refused = 0
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1
            refused += layout.logits(bytes(changed)) is None
        statistics = 8 * 4  # the least and the largest, twice in the page and twice in the footer
        assert refused == len(content) - 20 * 5 * 4 - statistics


def test_large_files_have_no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions_layout, "MAX_LOGITS", 99)
    assert PredictionsLayout.of(_ids(20), 5) is None
    assert PredictionsLayout.of([], 5) is None
