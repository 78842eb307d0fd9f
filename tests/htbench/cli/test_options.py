"""Options that several commands share."""

from __future__ import annotations

import click
import pytest

from benchmark.choices import DEVICES, ISOLATION
from htbench.cli.options import LocalPath, methods_option, seeds_option, tasks_option
from tests.htbench.command import Htbench, all_commands


def parsed(*words: str) -> tuple[int, ...]:
    command = click.Command("x", params=[])
    seeds_option("")(command)
    seeds: tuple[int, ...] = command.make_context("x", list(words)).params["seeds"]
    return seeds


def test_a_seed_is_a_number_a_range_or_a_list() -> None:
    assert parsed() == ()
    assert parsed("--seed", "3") == (3,)
    assert parsed("--seed", "0-4", "--seed", "7") == (0, 1, 2, 3, 4, 7)
    assert parsed("--seed", "0-1, 5", "--seed", "1-2") == (0, 1, 5, 2)


@pytest.mark.parametrize("text", ["-1", "a", "2-", "4-1", "1-2-3", "0-9999999", "1.5", "", "٣"])
def test_what_is_not_a_seed_is_refused(htbench: Htbench, text: str) -> None:
    status, _, err = htbench("run", "--suite", "icons", f"--seed={text}")
    assert status == 2
    assert repr(text) in err


def test_a_seed_that_the_suite_does_not_have_is_refused_with_its_range(htbench: Htbench) -> None:
    status, _, err = htbench("run", "--suite", "icons", "--seed", "1-3", "--device", "cpu")
    assert status == 2
    assert err == "htbench: --seed 3 is not in suite icons; it has: 0-2\n"


def test_every_command_has_the_choices_of_python() -> None:
    options = [option for _, command in all_commands() for option in command.params]
    for name, known in (("device", DEVICES), ("isolation", ISOLATION)):
        types = [option.type for option in options if option.name == name]
        assert types
        for kind in types:
            assert isinstance(kind, click.Choice)
            assert (tuple(kind.choices)) == known


def test_every_path_is_a_local_path() -> None:
    options = [option for _, command in all_commands() for option in command.params]
    paths = [option.type for option in options if isinstance(option.type, click.Path)]
    assert len(paths) > 20
    assert all(isinstance(kind, LocalPath) for kind in paths)


@pytest.mark.parametrize("value", ["", "--json", "--suite"])
@pytest.mark.parametrize(
    "words", [["leaderboard", "--workspace"], ["submit", "verify"], ["data", "import", "icons"]]
)
def test_the_value_of_a_variable_that_is_not_set_is_not_a_path(
    htbench: Htbench, words: list[str], value: str
) -> None:
    end = [value] if words[-1].startswith("-") else ["--", value]
    status, _, err = htbench(*words, *end)
    assert status == 2
    assert "a path is needed" in err
    assert f"write ./{value}" in err if value else "this one is empty" in err


def test_a_path_may_begin_with_two_hyphens_below_a_folder(htbench: Htbench) -> None:
    status, _, err = htbench("leaderboard", "--suite", "icons", "--workspace", "./--json")
    assert status == 2
    assert "has no runs" in err


def test_methods_and_tasks_may_be_lists() -> None:
    command = click.Command("x", params=[])
    tasks_option("")(command)
    methods_option("")(command)
    words = ["--method", "source, finetune", "--method", "finetune,wise-ft", "--task", "a,b+c"]
    labels = ["--method", "lolsgd(rounds=2, classes=3)"]
    values = command.make_context("x", words + labels).params
    assert values["tasks"] == ("a", "b+c")
    assert values["methods"] == ("source", "finetune", "wise-ft", "lolsgd(rounds=2, classes=3)")


def test_an_unknown_method_of_a_list_is_named_alone(htbench: Htbench) -> None:
    status, _, err = htbench("run", "--suite", "icons", "--method", "source,finetun")
    assert status == 2
    assert "no method 'finetun'; did you mean" in err
