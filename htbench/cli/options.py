"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from benchmark.choices import DEVICES, TIME_LIMIT, WORKSPACE
from benchmark.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]


class LocalPath(click.Path):
    """A file or folder, as a ``Path``; the choices are those of `click.Path`.

    An empty value and one that begins with two hyphens are refused: they come from a shell
    variable that is not set, and would be the current folder or a folder called ``--json``.
    """

    def __init__(self, **choices: Any) -> None:
        super().__init__(path_type=Path, **choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            click.BadParameter: the value is not a path, or not one that the choices allow.
        """
        if value == "":
            self.fail("a path is needed, and this one is empty", param, ctx)
        if str(value).startswith("--"):
            self.fail(
                f"a path is needed before {value}; if that is the path, write ./{value}", param, ctx
            )
        return super().convert(value, param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

model_option = click.option(
    "--model",
    "network",
    metavar="NETWORK",
    help="Use another network instead of the manifest's: NAME or NAME@WEIGHTS "
    "(torchvision), or timm/NAME or timm/NAME.TAG.",
)

device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default=DEVICES[0],
    show_default=True,
    help="Device to run on.",
)

jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs or source trainings in parallel.  [default: one per core, or one on a GPU]",
)

time_limit_option = click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=TIME_LIMIT,
    show_default=True,
    metavar="SECONDS",
    help="Time limit per run.",
)

memory_limit_option = click.option(
    "--memory-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="Memory limit per run. Python and torch already use about 0.4 GiB.  [default: 80 % of "
    "the memory of this machine or its container]",
)

yes_option = click.option(
    "--yes", is_flag=True, help="Do not ask before runs that take more than a day on a CPU."
)

MAX_SEEDS = 10_000  # of one range


def _parsed_seeds(_context: object, _option: object, values: Sequence[str]) -> tuple[int, ...]:
    """The seeds that texts such as ``3``, ``0-4`` and ``0-2,5`` name, each once.

    Raises:
        click.BadParameter: a text is not of this form.
    """
    seeds: dict[int, None] = {}
    for value in values:
        for part in value.split(","):
            first, dash, last = part.strip().partition("-")
            ends = (first, last) if dash else (first, first)
            if not all(end.isascii() and end.isdecimal() and len(end) < 20 for end in ends):
                raise click.BadParameter(
                    f"{value!r} is not a seed or a range of seeds, such as 3 or 0-4"
                )
            low, high = map(int, ends)
            if not low <= high < low + MAX_SEEDS:
                raise click.BadParameter(
                    f"{value!r} must begin with the smaller seed and have at most {MAX_SEEDS} seeds"
                )
            seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def seeds_option(purpose: str) -> Option[Any]:
    """``--seed``, repeatable; each value is a number or a range, and the command gets them all."""
    return click.option(
        "--seed", "seeds", multiple=True, metavar="SEED", callback=_parsed_seeds, help=purpose
    )


def _parsed_settings(
    context: click.Context, parameter: click.Parameter, settings: Sequence[str]
) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {setting} is not of the form FIELD=VALUE")
        if name in values:
            raise UsageError(f"--set {name} is given more than once")
        values[name] = value
    return values


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    callback=_parsed_settings,
    help="Set a hyper-parameter of every selected method that has it; repeatable.",
)


def names_of(text: str) -> list[str]:
    """The names in a text such as ``source,finetune``; a label with settings is one name."""
    return [text] if "(" in text else [name.strip() for name in text.split(",")]


def _parsed_names(_context: object, _option: object, texts: Sequence[str]) -> tuple[str, ...]:
    """The names in the values of an option, each once."""
    return tuple(dict.fromkeys(name for text in texts for name in names_of(text)))


def tasks_option(purpose: str) -> Option[Any]:
    """``--task`` of a command that takes several; each value is a name or a list ``A,B``."""
    return click.option(
        "--task", "tasks", multiple=True, metavar="TASK", callback=_parsed_names, help=purpose
    )


def methods_option(purpose: str) -> Option[Any]:
    """``--method``, repeatable; each value is a name or a list ``A,B``."""
    return click.option(
        "--method", "methods", multiple=True, metavar="METHOD", callback=_parsed_names, help=purpose
    )


def status_option(purpose: str, *choices: str) -> Option[Any]:
    """``--status``, repeatable; of runs unless other ``choices`` are named."""
    return click.option(
        "--status",
        "states",
        multiple=True,
        type=click.Choice(choices or ("ok", "failed", "not-applicable")),
        help=purpose,
    )


OWN_SUITE = "Name of a suite, or path of its file.  [default: that of the workspace's newest runs]"
ANY_SUITE = OWN_SUITE.removesuffix("]") + "; icons with --published]"
RUN_SEEDS = "Run only this seed, or range of seeds such as 0-4; repeatable."
SHOWN_SEEDS = "Use only runs of this seed, or range of seeds such as 0-4; repeatable."
RUN_TASKS = "Run only this task, or these (A,B); repeatable."


def plugins_option(purpose: str) -> Option[Any]:
    """Build the option ``--plugin`` with the given help text."""
    return click.option("--plugin", "plugins", multiple=True, metavar="FILE[:CLASS]", help=purpose)


workspace_option = click.option(
    "--workspace",
    "workspace",
    default=WORKSPACE,
    show_default=True,
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Folder for runs and results.",
)


def refuse_workspace(reason: str) -> None:
    """Refuse a workspace that this command would ignore.

    Args:
        reason: what follows ``--workspace`` in the message, such as ``is only for --suite``.

    Raises:
        UsageError: the command line names one.
    """
    source = click.get_current_context().get_parameter_source("workspace")
    if source is ParameterSource.COMMANDLINE:
        raise UsageError(f"--workspace {reason}; leave it out")


def refuse_workspace_of(published: bool) -> None:
    """Refuse a workspace beside ``--published``.

    Raises:
        UsageError: the command line has both.
    """
    if published:
        refuse_workspace("cannot be combined with --published, whose results are not in one")


def suite_option(
    purpose: str = "Name of a suite, or path of a suite's .toml file.",
    *,
    required: bool = False,
    default: str | None = None,
) -> Option[Any]:
    """``--suite``.

    Args:
        purpose: the help text.
        required: whether the option is required.
        default: the suite to use if the option is not given.
    """
    # An explicit default of None would satisfy `required`.
    defaults: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}
    return click.option(
        "--suite", "suite", required=required, metavar="SUITE", help=purpose, **defaults
    )


def task_option(purpose: str) -> Option[Any]:
    """``--task`` of a command that takes one task."""
    return click.option("--task", "task", metavar="TASK", help=purpose)


def manifest_option(purpose: str) -> Option[Any]:
    """``--manifest``."""
    return click.option("--manifest", "manifest", metavar="REF", help=purpose)


def _checked_output(_context: object, _option: object, out: Path | None) -> Path | None:
    from benchmark.files import check_output

    if out is not None:
        check_output(out)
    return out


def out_file_option(purpose: str) -> Option[Any]:
    """``--out`` of a command that writes one file; it is checked before the command begins."""
    return click.option(
        "--out",
        metavar="FILE",
        type=LocalPath(dir_okay=False),
        callback=_checked_output,
        help=purpose,
    )


def combine(*options: Option[Any]) -> Option[Any]:
    """Combine several options into one decorator; ``--help`` lists them in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add
