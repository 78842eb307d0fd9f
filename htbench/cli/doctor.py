"""`htbench doctor`: versions, device, isolation, folders and caches."""

from __future__ import annotations

from pathlib import Path

import click

from htbench.cli.options import json_option, workspace_option
from htbench.cli.output import print_json


@click.command("doctor")
@workspace_option
@json_option
def command(workspace: Path, as_json: bool) -> None:
    """Show versions, device, isolation, folders and caches.

    \b
    Examples:
      htbench doctor
      htbench doctor --json
    """
    from benchmark.doctor import machine_report

    report = machine_report(workspace)
    if as_json:
        print_json(report)
        return
    for section, facts in report.items():
        click.echo(click.style(section, bold=True))
        for name, value in facts.items():
            click.echo(f"  {name:<24} {value}")
