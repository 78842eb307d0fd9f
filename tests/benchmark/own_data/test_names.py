"""Names of domains are plain; two names that differ only in their spelling are refused."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from benchmark.own_data.names import check_names, domain_names
from tests.benchmark.own_data.pictures import entries_of


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/Dog/1", "b/dog/1"], r"classes 'Dog' \(a/Dog/1\), 'dog' \(b/dog/1\) differ only"),
        (["a/alarm clock/1", "b/alarm-clock/1"], "classes 'alarm clock'"),
        (["Photo/dog/1", "photo/dog/1"], "domains 'Photo'"),
    ],
)
def test_spellings_of_one_name_are_refused(paths: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_names(entries_of(paths))


def test_names_of_domains_are_ascii() -> None:
    folders = ["Real World", "Zeichnüng", "photo", "写真", "-x-"]
    assert domain_names(folders) == {
        "-x-": "x",
        "Real World": "Real_World",
        "Zeichnüng": "Zeichnung",
        "photo": "photo",
        "写真": "domain5",
    }
    with pytest.raises(UsageError, match=r"'a\+b', 'a_b' would be named 'a_b'"):
        domain_names(["a+b", "a_b"])
    with pytest.raises(UsageError, match=r"'e', 'É' would be named 'E', 'e', because .* case"):
        domain_names(["É", "e"])
