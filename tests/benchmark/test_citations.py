"""Citations: every method has one, and short references are readable."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import pytest

from benchmark.citations import read_citations, short_reference


def test_every_shipped_method_has_its_papers() -> None:
    table = read_citations()
    points = entry_points(group="holistic_transfer.methods")
    names = {point.name for point in points if point.value.startswith("baselines.")}
    assert names <= set(table["methods"]), "add it to benchmark/citations.toml"
    keys_in_use = {key for keys in table["methods"].values() for key in keys}
    assert keys_in_use | set(table["board"]["keys"]) == set(table["entries"])
    for key, bibtex in table["entries"].items():
        assert bibtex.strip().split("{", 1)[1].startswith(f"{key},")
        assert bibtex.count("{") == bibtex.count("}")


@pytest.mark.parametrize(
    ("key", "words", "link"),
    [
        ("li2018explicit", "Li et al., ICML 2018", "https://arxiv.org/abs/1802.01483"),
        ("li2016learning", "Li and Hoiem, ECCV 2016", "https://arxiv.org/abs/1606.09282"),
        ("wu2021rethinking", "Wu and Johnson, arXiv 2021", "https://arxiv.org/abs/2105.07576"),
        ("wortsman2022robust", "Wortsman et al., CVPR 2022", "https://arxiv.org/abs/2109.01903"),
        (
            "kirkpatrick2017overcoming",
            "Kirkpatrick et al., PNAS 2017",
            "https://arxiv.org/abs/1612.00796",
        ),
        (
            "mensink2013distance",
            "Mensink et al., TPAMI 2013",
            "https://doi.org/10.1109/TPAMI.2013.83",
        ),
        ("htbench", "htbench", None),
    ],
)
def test_a_paper_in_a_few_words(key: str, words: str, link: str | None) -> None:
    assert short_reference(key) == (words, link)


def test_the_first_paper_of_every_method_is_short_and_has_a_link() -> None:
    table = read_citations()
    first = {keys[0] for keys in table["methods"].values()}
    first.remove("htbench")
    for words, link in (short_reference(key) for key in first):
        assert re.fullmatch(r"[^,]{2,30}, [A-Za-z]{3,7} (19|20)\d\d", words), words
        assert link is not None
