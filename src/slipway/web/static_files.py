"""Styles, script, icons and fonts: read once, kept compressed, cached by the browser while they stay the same."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from slipway.domain.errors import NotFound
from slipway.web.compression import Coding, best_coding, compress

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
OURS = ("app.css", "tokens.css", "slip.js")
YEAR_S = 365 * 86400


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as the browser gets it, once for every coding it may ask for."""

    type: str
    digest: str
    bodies: dict[Coding, bytes]


@cache
def static_files() -> dict[str, StaticFile]:
    """Every file that may be served, by its path below `static/`."""
    files = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix not in TYPES:
            continue
        body = lighten(path)
        bodies: dict[Coding, bytes] = {"identity": body}
        if path.suffix != ".woff2":
            bodies |= {"zstd": compress(body, "zstd", hard=True), "gzip": compress(body, "gzip", hard=True)}
        digest = hashlib.sha256(body).hexdigest()[:12]
        files[path.relative_to(FOLDER).as_posix()] = StaticFile(TYPES[path.suffix], digest, bodies)
    return files


def lighten(path: Path) -> bytes:
    """The file as it is sent: styles and scripts of ours go without their comments and indentation."""
    if path.name not in OURS:
        return path.read_bytes()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        text = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
        text = re.sub(r" ?([{};,>]) ?", r"\1", text).replace(": ", ":")
    else:
        text = re.sub(r"^\s*(/\*.*?\*/|//[^\n]*)\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"\n\s*", "\n", re.sub(r"/\*\* @type .*?\*/ ?", "", text))
    return text.encode()


@cache
def static_url(name: str) -> str:
    """`/static/app.css?v=…`: the address changes with the content."""
    return f"/static/{name}?v={static_files()[name].digest}"


def serve_static(request: Request) -> Response:
    """Raises `NotFound`."""
    name = request.path_params["name"]
    file = static_files().get(name)
    if file is None:
        raise NotFound("file", f"/static/{name}")
    for_ever = request.query_params.get("v") == file.digest
    headers = {
        "Cache-Control": f"public, max-age={YEAR_S}, immutable" if for_ever else "public, max-age=3600",
        "ETag": f'"{file.digest}"',
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    coding = best_coding(request.headers.get("accept-encoding", ""))
    if coding in file.bodies and coding != "identity":
        headers["Content-Encoding"] = coding
    return Response(file.bodies.get(coding, file.bodies["identity"]), media_type=file.type, headers=headers)
