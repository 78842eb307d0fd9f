"""A download is complete and verified or absent; an interrupted one is resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmark import download as module
from benchmark.download import OVERLAP, download
from benchmark.errors import DataError, StorageError
from tests.benchmark.full_disk import files_of_at_most
from tests.benchmark.serving import Served, serve

DATA = bytes(range(256)) * 4000
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.001)


def ranges(served: Served) -> list[str | None]:
    return [request.get("Range") for request in served.requests]


def test_a_file_is_downloaded(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with serve(file=Served(DATA)) as site:
        path = download(
            f"{site.address}/file",
            tmp_path / "x" / "file.zip",
            size=len(DATA),
            sha256=SUM,
            progress=lambda received, total: calls.append((received, total)),
        )
    assert path.read_bytes() == DATA
    assert calls[-1] == (len(DATA), len(DATA))
    assert sorted(other.name for other in path.parent.iterdir()) == ["file.zip"]


def test_only_a_file_with_the_published_digest_is_not_downloaded_again(tmp_path: Path) -> None:
    served = Served(DATA)
    with serve(file=served) as site:
        for content, digest, times in ((DATA, SUM, 0), (DATA, None, 1), (b"other", SUM, 2)):
            (file := tmp_path / "file").write_bytes(content)
            assert download(f"{site.address}/file", file, sha256=digest) == file
            assert file.read_bytes() == DATA
            assert len(served.requests) == times


def test_a_closed_connection_is_resumed(tmp_path: Path) -> None:
    served, messages = Served(DATA, cut=[300_000, 200_000 + OVERLAP]), []
    with serve(file=served) as site:
        download(f"{site.address}/file", tmp_path / "file", sha256=SUM, log=messages.append)
    assert ranges(served) == [None, f"bytes={300_000 - OVERLAP}-", f"bytes={500_000 - OVERLAP}-"]
    assert len(messages) == 2
    assert "closed after 300000 of 1024000 bytes; retrying" in messages[0]


def test_the_next_call_resumes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 100_000)

    def stop(received: int, total: int) -> None:
        if received >= 400_000:
            raise KeyboardInterrupt

    served = Served(DATA)
    with serve(file=served) as site:
        with pytest.raises(KeyboardInterrupt):
            download(f"{site.address}/file", tmp_path / "file", progress=stop)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file.part", "file.part.mark"]
        download(f"{site.address}/file", tmp_path / "file", sha256=SUM)
    assert ranges(served) == [None, f"bytes={400_000 - OVERLAP}-"]


def test_a_file_that_changed_in_between_is_downloaded_again(tmp_path: Path) -> None:
    served = Served(b"old" * 100_000, cut=[1000] * (module.RETRIES + 1))
    served.ranges = False
    with serve(file=served) as site:
        with pytest.raises(DataError, match="again to resume"):
            download(f"{site.address}/file", tmp_path / "file")
        served.data, served.tag, served.ranges = DATA, '"two"', True
        download(f"{site.address}/file", tmp_path / "file", sha256=SUM)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_server_without_ranges_sends_the_whole_file_again(tmp_path: Path) -> None:
    with serve(file=Served(DATA, cut=[1000], ranges=False)) as site:
        download(f"{site.address}/file", tmp_path / "file", sha256=SUM)
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    "part",
    [
        b"x" * (len(DATA) + OVERLAP + 5),
        b"x" * (len(DATA) + 5),
        DATA + b"x",
        b"x" * 300_000,
        DATA[:200_000] + bytes(100_000),  # as after a power cut
        DATA[1:300_000],
    ],
)
def test_a_part_that_is_not_of_this_file_is_not_used(tmp_path: Path, part: bytes) -> None:
    """Its mark is, and no SHA-256 is published that would show it in the end."""
    (tmp_path / "file.part").write_bytes(part)
    (tmp_path / "file.part.mark").write_text('"one"')
    with serve(file=Served(DATA)) as site:
        download(f"{site.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_connection_that_closes_before_the_rest_keeps_the_part(tmp_path: Path) -> None:
    served = Served(DATA, cut=[300_000, 1000])
    with serve(file=served) as site:
        download(f"{site.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    assert ranges(served) == [None, *[f"bytes={300_000 - OVERLAP}-"] * 2]


def test_an_error_of_the_disk_is_not_one_of_the_server(tmp_path: Path) -> None:
    served, messages = Served(DATA), []
    with serve(file=served) as site:
        address = f"{site.address}/file"
        with (
            files_of_at_most(300_000),
            pytest.raises(StorageError, match=r"cannot write .*file\.part: .*then run the same"),
        ):
            download(address, tmp_path / "file", sha256=SUM, log=messages.append)
        assert messages == []
        download(address, tmp_path / "file", sha256=SUM)
    assert ranges(served) == [None, f"bytes={300_000 - OVERLAP}-"]


def test_a_busy_server_is_retried(tmp_path: Path) -> None:
    with serve(file=Served(DATA, statuses=[503, 429, 500])) as site:
        download(f"{site.address}/file", tmp_path / "file", sha256=SUM)
    assert (tmp_path / "file").read_bytes() == DATA


def test_redirects_are_followed_but_cycles_and_unsafe_ones_are_not(tmp_path: Path) -> None:
    with serve(one=Served(), file=Served(DATA), round=Served()) as site:
        site.files["one"].leads_to = f"{site.address}/file"
        site.files["round"].leads_to = f"{site.address}/round"
        download(f"{site.address}/one", tmp_path / "file", sha256=SUM)
        with pytest.raises(DataError, match="cannot download"):
            download(f"{site.address}/round", tmp_path / "round")
        site.files["one"].leads_to = "file:///etc/passwd"
        with pytest.raises(DataError, match=r"refusing to follow|not allowed"):
            download(f"{site.address}/one", tmp_path / "local")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    ("served", "options", "words"),
    [
        (Served(b"<!DOCTYPE html><title>Quota &amp; x</title>"), {}, r"web page \(Quota & x\)"),
        (Served(DATA), {"size": 5}, "sent more than the expected 5 bytes"),
        (Served(DATA), {"size": len(DATA) + 1}, "connection closed after"),
        (Served(DATA), {"sha256": "0" * 64}, "has SHA-256"),
        (Served(DATA, cut=[0] * 10), {}, "again to resume"),
        (Served(DATA, length=len(DATA) + 9), {}, "again to resume"),
        (Served(DATA, statuses=[403]), {}, "responded with 403"),
    ],
)
def test_a_failure_is_explained_and_leaves_no_file(
    tmp_path: Path, served: Served, options: dict[str, object], words: str
) -> None:
    with serve(file=served) as site, pytest.raises(DataError, match=words):
        download(f"{site.address}/file", tmp_path / "file", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "file").exists()


def test_a_file_with_the_wrong_digest_is_deleted(tmp_path: Path) -> None:
    with (
        serve(file=Served(DATA)) as site,
        pytest.raises(DataError, match="the download was deleted"),
    ):
        download(f"{site.address}/file", tmp_path / "file", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://[x/file", "not a URL: Invalid IPv6 URL"),
        ("http://127.0.0.1:9/ä.zip", "percent-encoded: http://127.0.0.1:9/%C3%A4.zip$"),
        ("http://127.0.0.1:9/a b/%20.zip?x=ä b", r"9/a%20b/%20.zip\?x=%C3%A4%20b$"),
    ],
)
def test_an_address_that_no_request_can_have_is_refused(
    tmp_path: Path, address: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        download(address, tmp_path / "file")


def test_only_http(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an http or https URL"):
        download("file:///etc/passwd", tmp_path / "file")
    with pytest.raises(DataError, match="refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file")
