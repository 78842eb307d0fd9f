"""The commands of the command line, and whether words can be parsed as one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click

from htbench.cli.main import htbench as group

Htbench = Callable[..., tuple[int, str, str]]  # arguments -> (status, standard output and error)


def all_commands(
    command: click.Command = group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and subcommand with the words that call it; the first is ``htbench``."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from all_commands(subcommand, (*path, name))


def parse(words: Sequence[str]) -> None:
    """Parse the words after ``htbench`` as the command line does, without running anything.

    Raises:
        click.UsageError: a command, an option or a value does not exist or is missing.
    """
    context: click.Context = group.make_context("htbench", list(words))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None
        context = command.make_context(name, rest, parent=context)
