"""Fixtures for the tests of the benchmark."""

from __future__ import annotations

import pytest

from htbench.cli.main import main
from tests.benchmark.command import Htbench


@pytest.fixture
def htbench(capsys: pytest.CaptureFixture[str]) -> Htbench:
    """Runs htbench in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(exit_info.value.code or 0), out, err

    return run
