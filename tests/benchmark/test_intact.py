"""Nothing is kept of what was computed from files that were damaged or changed meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from benchmark.errors import DataError, RunError
from benchmark.files import digest_file, new_folder
from benchmark.intact import intact


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"good")
    return path


@pytest.fixture
def files(file: Path) -> dict[Path, str]:
    return {file: digest_file(file)}


def test_a_folder_is_kept(files, tmp_path) -> None:
    with intact(files), new_folder(tmp_path / "new") as building:
        (building / "result").touch()
    assert (tmp_path / "new" / "result").exists()


@pytest.mark.parametrize("content", [b"baad", b"goo", None])
def test_a_file_is_damaged_or_missing_before(file, files, content) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"file is missing or damaged; run"), intact(files):
        pytest.fail("the block began")


def test_a_file_is_changed_in_place(file, files, tmp_path) -> None:
    with (
        pytest.raises(DataError, match=r"file was changed while it was in use"),
        intact(files),
        new_folder(tmp_path / "new"),
    ):
        file.write_bytes(b"baad")
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_a_damaged_file_is_mended_meanwhile(file, files, tmp_path) -> None:
    """Whether the block read the damaged or the mended one is unknown."""
    mended = tmp_path / "mended"
    mended.write_bytes(b"good")
    with pytest.raises(DataError), intact(files), new_folder(tmp_path / "new"):
        mended.replace(file)
    assert not (tmp_path / "new").exists()


def test_other_changes_of_a_file_do_no_harm(file, files, tmp_path) -> None:
    """It was deleted while it was open, or got another mode."""
    with intact(files):
        file.chmod(0o600)
        with new_folder(tmp_path / "one"):
            pass
        file.unlink()
        with new_folder(tmp_path / "two"):
            pass
    assert (tmp_path / "two").exists()


def test_an_error_in_the_block_has_a_changed_file_as_its_reason(file, files) -> None:
    def fail() -> None:
        file.write_bytes(b"")
        raise RunError("the run failed")

    with pytest.raises(DataError, match="was changed"), intact(files):
        fail()


def test_another_error_stays(files) -> None:
    with pytest.raises(RunError, match="the run failed"), intact(files):
        raise RunError("the run failed")


def test_another_thread_is_not_concerned(file, files, tmp_path) -> None:
    def create() -> None:
        with new_folder(tmp_path / "new"):
            pass

    with intact(files):
        file.write_bytes(b"baad")
        thread = threading.Thread(target=create)
        thread.start()
        thread.join()
    assert (tmp_path / "new").exists()
