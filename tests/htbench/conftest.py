"""The command line in the process of a test, and the slice of icons of the end-to-end tests."""

from __future__ import annotations

import pytest

from htbench.cli.main import main
from tests.end_to_end.conftest import command, mini, session
from tests.htbench.command import Htbench

__all__ = ["command", "mini", "session"]


@pytest.fixture
def htbench(capsys: pytest.CaptureFixture[str]) -> Htbench:
    """Run the command line in this process; return status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(exit_info.value.code or 0), out, err

    return run
