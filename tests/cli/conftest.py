"""Runs command lines in this process, as the entry point does."""

import sys
from collections.abc import Callable

import pytest

from slipway.cli import main as cli

Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def slipway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    """Runs a command line as the entry point does: its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slipway", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else int(code is not None)), out, err

    return run
