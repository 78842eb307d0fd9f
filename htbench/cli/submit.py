"""`htbench submit`: pack, check, repeat, accept and withdraw submissions to a public board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.text import plural, printable
from htbench.cli.options import (
    LocalPath,
    Option,
    json_option,
    memory_limit_option,
    seeds_option,
    suite_option,
    tasks_option,
    time_limit_option,
    workspace_option,
)
from htbench.cli.output import message_line, print_json, run_problems
from htbench.progress import Terminal, log

if TYPE_CHECKING:
    from htbench.submission.verify import Verification
    from leaderboard.submission.state import Submission

_STYLES: dict[str, dict[str, Any]] = {
    "ok": {"fg": "green"},
    "failed": {"fg": "red", "bold": True},
    "flagged": {"fg": "yellow", "bold": True},
}
_FOLDER = click.argument("folder", metavar="FOLDER", type=LocalPath(file_okay=False))
_OUT = click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Folder to create.",
)
_OWN_SUITE = suite_option(
    "Path of a suite's .toml file, to check against it instead of the published suite.  [default: "
    "the suite that the submission names]"
)
_PUBLISHED = click.option(
    "--published",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="The folder leaderboard/published of a checkout.  [default: that of this installation]",
)


MAX_WORDS = 1000  # bytes of a text for the log


def _for_log(_context: object, parameter: click.Parameter, text: str) -> str:
    """A text that the log will keep.

    Raises:
        click.BadParameter: it is required and empty, or is too long or not printable.
    """
    if parameter.required and not text.strip():
        raise click.BadParameter("it is empty; the log keeps who did what, and why")
    if len(text.encode(errors="replace")) > MAX_WORDS or printable(text) != text:
        raise click.BadParameter(f"it must be one printable line of at most {MAX_WORDS} bytes")
    return text


def _by(purpose: str) -> Option[Any]:
    return click.option("--by", required=True, metavar="WHO", callback=_for_log, help=purpose)


def _why(purpose: str, *, required: bool) -> Option[Any]:
    default: dict[str, Any] = {} if required else {"default": ""}
    return click.option(
        "--why", required=required, metavar="TEXT", callback=_for_log, help=purpose, **default
    )


@click.group("submit")
def command() -> None:
    """Submit a method to a public board, or accept submissions as its maintainer.

    \b
    Examples:
      htbench submit pack my-method --suite icons --out my-method
      htbench submit check my-method
      htbench submit verify my-method --by 'A. Maintainer'
      htbench submit accept my-method --by 'A. Maintainer'
    """


@command.command("pack")
@click.argument("name")
@suite_option(required=True)
@workspace_option
@_OUT
@click.option("--author", "authors", multiple=True, metavar="NAME", help="An author; repeatable.")
@click.option("--paper", default="", metavar="URL", help="Address of the paper, or 'none'.")
@click.option("--code", default="", metavar="URL", help="Address of public code, or 'none'.")
@click.option("--licence", "--license", default="", help="Licence of the code, such as MIT.")
@click.option(
    "--code-folder",
    metavar="DIR",
    type=LocalPath(file_okay=False, exists=True),
    help="Where to look for files of the method that its runs did not keep, because they have more "
    "than 1 MiB, or 8 MiB together.",
)
@json_option
def pack_command(
    name: str,
    suite: str,
    workspace: Path,
    out: Path,
    authors: tuple[str, ...],
    paper: str,
    code: str,
    licence: str,
    code_folder: Path | None,
    as_json: bool,
) -> None:
    """Pack the runs of the method NAME on a suite into a folder.

    The folder has the method's files, the records and predictions of its runs, and a form,
    submission.toml. What the options leave empty there is for you to fill in; --json lists it.

    \b
    Examples:
      htbench submit pack my-method --suite icons --out my-method
      htbench submit pack 'my-method(alpha=0.3)' --suite icons --out my-method --licence MIT
    """
    from benchmark.commands import command as command_line
    from benchmark.manifest.suite import known_suites, load_suite
    from htbench.results import open_workspace
    from htbench.submission.pack import pack
    from leaderboard.submission.folder import FORM_FILE

    loaded = load_suite(suite)
    of_suite = () if suite in known_suites() else ("--suite", suite)
    check = command_line("submit", "check", out, *of_suite)
    with run_problems() as problems:
        pack(
            name,
            loaded,
            open_workspace(workspace),
            out,
            code_folder=code_folder,
            authors=authors,
            paper=paper,
            code=code,
            licence=licence,
            report=problems.append,
        )
        answers = {"authors": authors, "paper": paper, "code": code, "licence": licence}
        empty = [entry for entry, answer in answers.items() if not answer]
        if as_json:
            print_json({"folder": str(out), "fill_in": empty, "next": check})
        else:
            fill_in = f"fill in {', '.join(empty)} in {out / FORM_FILE}, " if empty else ""
            click.echo(message_line(f"wrote {out}; {fill_in}then run `{check}`"))


@command.command("check")
@_FOLDER
@_OWN_SUITE
@_PUBLISHED
@json_option
@click.pass_context
def check(
    context: click.Context,
    folder: Path,
    suite: str | None,
    published: Path | None,
    as_json: bool,
) -> None:
    """Check a submission; none of its code is imported or run.

    Scores are computed from the predictions. Flagged means that a person has to look. Exits with
    status 1 if a check failed.

    \b
    Examples:
      htbench submit check my-method
      htbench submit check my-method --json
    """
    submission = _inspected(folder, suite, published, quiet=as_json)
    states = [result.state for result in submission.results]
    if as_json:
        print_json([result._asdict() for result in submission.results])
    else:
        count = {state: states.count(state) for state in ("ok", "failed", "flagged", "not run")}
        click.echo(", ".join(f"{number} {state}" for state, number in count.items() if number))
    if submission.is_refused:
        context.exit(1)


@command.command("verify")
@_FOLDER
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="K",
    help="How many runs to repeat.",
)
@seeds_option(
    "Choose among runs of this seed, or range of seeds; repeatable. A seed that the suite does not "
    "have is unannounced: its accuracies are compared with those of the submitted seeds."
)
@tasks_option("Choose among runs of this task; repeatable.")
@time_limit_option
@memory_limit_option
@_by("Who verifies, for the record.")
@_OWN_SUITE
@_PUBLISHED
@click.option(
    "--out",
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="File to write.  [default: FOLDER.verification.json]",
)
@json_option
@click.pass_context
def verify_command(
    context: click.Context,
    folder: Path,
    runs: int,
    seeds: tuple[int, ...],
    tasks: tuple[str, ...],
    time_limit: float,
    memory_limit: float | None,
    by: str,
    suite: str | None,
    published: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Check a submission, and repeat some of its runs from the submitted files, in the sandbox.

    The runs are chosen at random, among the tasks and seeds that you name. Each has a fresh
    workspace. Predictions must be the same bytes on the same kind of machine; on another kind,
    accuracies may differ by 2 points overall and 3 on seen or missing classes. The result is
    written to a file for `submit accept --verification`. Exits with status 1 if a run differs.

    \b
    Examples:
      htbench submit verify my-method --by 'A. Maintainer'
      htbench submit verify my-method --by 'A. Maintainer' --task outline-solid --seed 0 --seed 71
      htbench submit verify my-method --by 'A. Maintainer' --runs 1 --json
    """
    from htbench.submission.verify import (
        check_place,
        choose,
        verification_file,
        verify,
        write_verification,
    )

    path = out or verification_file(folder)
    check_place(path, folder)
    submission = _accepted_by_checks(folder, suite, published)
    cells = choose(submission.suite, runs, tasks, seeds)
    chosen = "at random" + (", among named tasks or seeds" if tasks or seeds else "")
    result = verify(submission, cells, by, chosen, Terminal(), time_limit, memory_limit)
    write_verification(path, result)
    if as_json:
        print_json(asdict(result))
    else:
        _print_verification(result, path)
    if not result.verified:
        context.exit(1)


def _print_verification(result: Verification, path: Path) -> None:
    for cell in result.cells:
        points = ", ".join(f"{name} {value:+.2f}" for name, value in cell.difference.items())
        text = f"{cell.outcome}: {cell.task}, seed {cell.seed}"
        text += f" ({points})" if points else ""
        text += "" if cell.announced else "; this seed was not announced"
        click.echo(message_line(f"{text}; {cell.reason}" if cell.reason else text))
    click.echo(message_line(f"{'verified' if result.verified else 'not verified'}; wrote {path}"))


@command.command("accept")
@_FOLDER
@_by("Who accepts it, for the log.")
@_why("Why; required if a check is flagged.", required=False)
@_OWN_SUITE
@_PUBLISHED
@click.option(
    "--verification",
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="What `submit verify` wrote, to mark the row as verified. Never a file that came with the "
    "submission.",
)
@json_option
def accept(
    folder: Path,
    by: str,
    why: str,
    suite: str | None,
    published: Path | None,
    verification: Path | None,
    as_json: bool,
) -> None:
    """Add the rows of a submission to the published results of a checkout, and to their log.

    Accept it again to add a verification, or to score it with a later version. Then run
    `make board` and commit; the rows and the log are in leaderboard/published/submissions. --json
    prints the new line of the log.

    \b
    Examples:
      htbench submit accept my-method --by 'A. Maintainer' --why 'read its code'
      htbench submit accept my-method --by Me --verification my-method.verification.json
    """
    from benchmark.errors import UsageError
    from htbench.submission.verify import read_verification
    from leaderboard.accepted import SUBMITTED, VERIFIED, add, verification_of

    target = _writable(published)
    submission = _accepted_by_checks(folder, suite, target)
    if submission.flags and not why.strip():
        raise UsageError(
            "a check is flagged: look at the submission, and say with --why why it may be accepted"
        )
    form = asdict(submission.form)
    record: Mapping[str, Any] | None
    if verification is None:
        record = verification_of(target, form["suite"], form["name"], submission.digest)
    else:
        record = read_verification(verification, submission.digest)
    part = submission.part(SUBMITTED if record is None else VERIFIED)
    entry = add(target, part, form, record, submission.digest, by, why)
    if as_json:
        print_json(asdict(entry))
        return
    click.echo(
        message_line(
            f"{entry.action}: {plural(part.num_rows, 'row')} of {entry.name} on {entry.suite}"
            f"{', verified' if record else ', not verified'}; commit {target / 'submissions'}"
        )
    )


@command.command("withdraw")
@click.argument("name")
@_by("Who withdraws it, for the log.")
@_why("Why, for the log.", required=True)
@suite_option("Withdraw it from this suite only.  [default: from all]")
@_PUBLISHED
@json_option
def withdraw_command(
    name: str, by: str, why: str, suite: str | None, published: Path | None, as_json: bool
) -> None:
    """Remove the rows of the accepted submission NAME; the log keeps that it was there.

    --json prints the new lines of the log.

    \b
    Examples:
      htbench submit withdraw my-method --by 'A. Maintainer' --why 'asked by its author'
      htbench submit withdraw my-method --suite icons --by 'A. Maintainer' --why 'labels in it'
    """
    from leaderboard.accepted import withdraw

    target = _writable(published)
    entries = withdraw(target, name, suite, by, why)
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        click.echo(message_line(f"withdrew {entry.name} from {entry.suite}"))
    click.echo(message_line(f"commit {target / 'submissions'}"))


def _writable(published: Path | None) -> Path:
    """The folder of published results to change.

    Raises:
        UsageError: none is named, and this installation is not a checkout.
    """
    from benchmark.errors import UsageError
    from leaderboard.published import FOLDER, results_folder

    if published is None and not (FOLDER.parents[1] / "pyproject.toml").is_file():
        raise UsageError(
            "this installation is not a checkout of the repository; name the folder "
            "leaderboard/published of one with --published"
        )
    return results_folder(published)


def _inspected(
    folder: Path, suite: str | None, published: Path | None, *, quiet: bool
) -> Submission:
    """Carry out the checks of a submission, and print each unless ``quiet``."""
    from benchmark.errors import UsageError
    from benchmark.keys import compute_digest
    from benchmark.manifest.suite import load_suite
    from benchmark.methods.find import builtin_methods
    from leaderboard.gamma_star import DERIVED
    from leaderboard.published import results_folder
    from leaderboard.submission.checks import CHECKS, inspect
    from leaderboard.submission.state import Submission

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    own = None if suite is None else load_suite(suite)
    taken = {*builtin_methods(), *DERIVED}
    others = results_folder(published)
    submission = Submission(folder.resolve(), taken, compute_digest(), others, own)
    width = max(len(check.name) for check in CHECKS)
    for result in inspect(submission):
        if not quiet:
            word = click.style(f"{result.state:<7}", **_STYLES.get(result.state, {"dim": True}))
            text = f"{result.check:<{width}}  {result.reason or result.purpose}"
            click.echo(f"{word}  {message_line(text)}")
    return submission


def _accepted_by_checks(folder: Path, suite: str | None, published: Path | None) -> Submission:
    """A submission that no check refuses; flags are printed.

    Raises:
        UsageError: a check has failed.
    """
    from benchmark.commands import command as command_line
    from benchmark.errors import UsageError

    submission = _inspected(folder, suite, published, quiet=True)
    if submission.is_refused:
        words: Sequence[object] = (
            "submit",
            "check",
            folder,
            *(("--suite", suite) if suite else ()),
            *(("--published", published) if published else ()),
        )
        raise UsageError(f"the submission fails its checks; see `{command_line(*words)}`")
    for flag in submission.flags:
        log(f"flagged: {flag}")
    return submission
