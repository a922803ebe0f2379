"""Who is signed in: a sealed cookie, opened by an API key or by a link that works once."""

import base64
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple

COOKIE = "slip_session"
HOURS = 12
LINK_MINUTES = 10


class Holder(NamedTuple):
    """Whom a cookie was given to, and the id of the API key that was shown for it; empty for a link."""

    name: str
    key: str


class Sessions:
    """Sessions of one application. The secret lies beside its store, so every server process reads the same cookies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._secret: bytes | None = None

    def seal(self, name: str, *, key: str = "", now: float | None = None) -> str:
        """The cookie of a person who showed the API key with this id, or used a link."""
        ends = int((time.time() if now is None else now) + HOURS * 3600)
        payload = base64.urlsafe_b64encode(f"{ends}\n{key}\n{name}".encode()).decode().rstrip("=")
        return f"{payload}.{self._sign(payload)}"

    def open(self, cookie: str, *, now: float | None = None) -> Holder | None:
        """Whom a cookie belongs to; None when it is forged or has ended."""
        payload, _, signature = cookie.partition(".")
        if not signature or not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            return None
        ends, key, name = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode().split("\n", 2)
        return Holder(name, key) if int(ends) >= (time.time() if now is None else now) else None

    def make_link(self, base: str) -> str:
        """An address that signs in once within ten minutes: for the terminal of who starts the server."""
        token = secrets.token_urlsafe(24)
        path = self._link(token)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        return f"{base.rstrip('/')}/sign-in?token={token}"

    def use_link(self, token: str, *, now: float | None = None) -> bool:
        """Whether a link's token is good; it is used up by asking. Removing the file decides between two at once."""
        path = self._link(token)
        try:
            made = path.stat().st_mtime
            path.unlink()
        except FileNotFoundError:
            return False
        return (time.time() if now is None else now) - made < LINK_MINUTES * 60

    def _link(self, token: str) -> Path:
        return self.folder / "sign-in" / hashlib.sha256(token.encode()).hexdigest()

    def _sign(self, payload: str) -> str:
        return hmac.new(self._read_secret(), payload.encode(), hashlib.sha256).hexdigest()

    def _read_secret(self) -> bytes:
        if self._secret is None:
            path = self.folder / "session.key"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(secrets.token_bytes(32))
            except FileExistsError:
                pass
            self._secret = path.read_bytes()
        return self._secret
