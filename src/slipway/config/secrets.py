"""Secrets: written as `env:NAME` or `file:PATH`, never printed."""

import os
from pathlib import Path

from slipway.domain.errors import SecretMissing


class Secret:
    """A value that does not print. `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('**********')" if self._value else "Secret('')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)


def read_secret(reference: str, *, place: str, folder: Path | None = None) -> Secret:
    """The secret behind `env:NAME` or `file:PATH` (relative to `folder`). Empty stays empty.

    Raises `SecretMissing` when nothing is there, or when the secret itself was written into the file.
    """
    if not reference:
        return Secret("")
    scheme, _, name = reference.partition(":")
    if scheme == "env":
        value = os.environ.get(name)
        if value is None:
            raise SecretMissing(place, f"the environment variable {name} is not set. Set it and run the command again.")
        return Secret(value)
    if scheme == "file":
        path = (folder or Path()) / name
        try:
            return Secret(path.read_text(encoding="utf-8").strip())
        except OSError as wrong:
            raise SecretMissing(place, f"the secret file '{path}' cannot be read ({wrong.strerror}).") from wrong
    raise SecretMissing(
        place, 'a secret is never written into this file. Write "env:NAME" or "file:PATH" and put the value there.'
    )
