"""`htbench method`: write, try and check a method of your own."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import click

from benchmark.text import plural
from htbench.cli.options import (
    LocalPath,
    device_option,
    json_option,
    plugins_option,
    settings_option,
    suite_option,
    task_option,
)
from htbench.cli.output import message_line, print_json
from htbench.progress import Terminal, log

if TYPE_CHECKING:
    from benchmark.checks import Check

OK, FAILED, SKIPPED, NOT_RUN = "ok", "failed", "does not apply", "not run"
_STYLES: dict[str, dict[str, Any]] = {OK: {"fg": "green"}, FAILED: {"fg": "red", "bold": True}}
_BASES = plugins_option("Also load this file, with a method that yours starts from; repeatable.")
_METHOD = click.argument("method", metavar="FILE[:CLASS]|NAME")


@click.group("method")
def command() -> None:
    """Write a method of your own, try it while you write it, and check it.

    \b
    Examples:
      htbench method new my-method
      htbench method try my_method.py --smoke
      htbench method check my_method.py
    """


@command.command("check")
@_METHOD
@settings_option
@_BASES
@json_option
@click.pass_context
def check(
    context: click.Context,
    method: str,
    settings: dict[str, str],
    plugins: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check that a method keeps the contract, on a slice of the icons.

    Adapts a dozen times, which takes a minute or two on a CPU, and longer if the method starts from
    another one. The method is imported into this process; four checks look at sandboxed runs.
    Exits with status 1 if a check failed.

    \b
    Examples:
      htbench method check my_method.py
      htbench method check my_method.py:MyMethod --set alpha=0.3
      htbench method check finetune --json
    """
    from htbench.checks import checks_of_argument
    from htbench.cli.author_errors import author_errors

    with author_errors(2):
        checks = checks_of_argument(method, plugins, settings)
    width = max(len(one.name) for one in checks)
    results: list[dict[str, object]] = []
    for one in checks:
        start = time.monotonic()
        if results and results[0]["state"] != OK:
            state, reason = NOT_RUN, ""
        else:
            state, reason = _result(one)
        seconds = time.monotonic() - start
        results.append(
            {
                "check": one.name,
                "purpose": one.purpose,
                "state": state,
                "reason": reason,
                "seconds": round(seconds, 3),
            }
        )
        if not as_json and state != NOT_RUN:
            word = click.style(f"{state:<{len(SKIPPED)}}", **_STYLES.get(state, {}))
            text = f": {reason}" if reason else ""
            click.echo(f"{word}  {message_line(f'{one.name:<{width}}  {one.purpose}{text}')}")
    count = {state: sum(r["state"] == state for r in results) for state in (OK, FAILED, NOT_RUN)}
    if as_json:
        print_json(results)
    else:
        rest = len(results) - sum(count.values())
        line = f"{plural(count[OK], 'check')} passed, {count[FAILED]} failed, {rest} not applicable"
        if count[NOT_RUN]:
            line += f"; {count[NOT_RUN]} were not run, because they need {results[0]['check']}"
        click.echo(line)
    if count[FAILED]:
        context.exit(1)


def _result(check: Check) -> tuple[str, str]:
    """The state and the reason of a check; what the method prints is not shown."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check()
    except SkipTest as reason:
        return SKIPPED, str(reason)
    except AssertionError as failure:
        return FAILED, str(failure)
    return OK, ""


@command.command("try")
@_METHOD
@suite_option(default="icons")
@task_option("The task.  [default: the first of the suite]")
@click.option("--seed", default=0, show_default=True, metavar="SEED", help="Seed of the trial.")
@settings_option
@_BASES
@device_option
@click.option(
    "--smoke", is_flag=True, help="Take two steps on a few images, to see whether it works at all."
)
@click.pass_context
def try_command(
    context: click.Context,
    method: str,
    suite: str,
    task: str | None,
    seed: int,
    settings: dict[str, str],
    plugins: tuple[str, ...],
    device: str,
    smoke: bool,
) -> None:
    """Adapt with a method in this process, without the sandbox; nothing is recorded.

    What the method prints goes to the terminal, breakpoint() works, and an exception ends the
    command with its traceback and status 1. Half of the seen classes play missing; the accuracies
    are those on held-out training images of seen classes. No test image is used.

    \b
    Examples:
      htbench method try my_method.py
      htbench method try my_method.py --task solid-outline --set alpha=0.3
      htbench method try my_method.py --suite office-home --smoke
    """
    from benchmark.errors import NotApplicable
    from htbench.cli.author_errors import author_errors
    from htbench.trial import open_trial

    with author_errors(2):
        trial = open_trial(
            method,
            suite,
            task,
            seed=seed,
            settings=settings,
            plugins=plugins,
            device=device,
            smoke=smoke,
            monitor=Terminal(),
        )
    log("This runs in your own process, without the sandbox; nothing is recorded.")
    with author_errors():
        try:
            result = trial.carry_out()
        except NotApplicable as reason:
            click.echo(message_line(f"not applicable: {reason}"))
            return
    for note in result.notes:
        click.echo(message_line(f"note: {note}"))
    click.echo(f"\n{'':<24}{'pseudo-seen':>12}{'pseudo-missing':>16}")
    for name, (seen, missing) in (("source", result.source), (trial.label, result.method)):
        click.echo(message_line(f"{name:<24}{seen:>12.1f}{missing:>16.1f}"))
    click.echo(
        message_line(
            f"Accuracy in per cent on {result.images} held-out training images of seen classes of "
            f"{trial.task}, half of which played missing; {plural(result.steps, 'step')}, "
            f"{result.seconds:.1f} s."
        )
    )


@command.command("new")
@click.argument("name")
@click.option(
    "--out",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Folder to create.  [default: NAME]",
)
def new(name: str, out: Path | None) -> None:
    """Write a small project with a method that works as it is.

    It has the method, a test, a README, a pyproject.toml that registers the method, and a workflow
    that tests it on GitHub.

    \b
    Examples:
      htbench method new my-method
      htbench method new my-method --out projects/my-method
    """
    from benchmark.commands import command as command_line
    from htbench.new_method import write_project

    folder, file = write_project(name, out or Path(name))
    click.echo(message_line(f"wrote {folder}; next:"))
    for words in (("method", "try", file), ("method", "check", file)):
        click.echo(message_line(f"  {command_line(*words)}"))
