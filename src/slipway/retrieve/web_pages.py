"""Fetches the documents that stand at web addresses, within limits, and never from a private network unasked."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from slipway import __version__
from slipway.domain.document import Document
from slipway.domain.errors import InputError, ResponseTooLarge, SlipwayError, UpstreamError
from slipway.upstream.client import Deadlines, HttpClient, Response, prepare

AT_ONCE = 8
MOST_REDIRECTS = 5
MOST_LIST_BYTES = 4 * 1024 * 1024
DEADLINES = Deadlines(connect_s=10, first_byte_s=30, idle_s=30, total_s=120)
ADDRESS = re.compile(r"https?://\S+", re.I)
SUFFIXES = {
    "text/html": ".html", "application/xhtml+xml": ".html", "application/pdf": ".pdf", "text/markdown": ".md",
    "text/x-markdown": ".md", "text/csv": ".csv", "text/tab-separated-values": ".tsv", "text/plain": ".txt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}  # fmt: skip
TELLS_NOTHING = frozenset(["", "application/octet-stream", "binary/octet-stream"])
GONE = frozenset([401, 403, 404, 410, 451])
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Network addresses of a host."""
State = Literal["new", "unchanged", "gone", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of one address. `failed` may pass by itself; `gone` says that there is no such document any more."""

    url: str
    id: str
    state: State
    content: bytes = b""
    suffix: str = ""
    """Of the kind that the answer says it is, such as `.html`."""
    reason: str = ""
    marks: Mapping[str, str] | None = None
    """`etag` and `last_modified` by which the next build asks whether it changed."""


class Refused(Exception):
    """An address that is not fetched, with the reason."""


def is_address(source: str) -> bool:
    return ADDRESS.fullmatch(source) is not None


def split_sources(folder: Path, sources: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Files and folders, and web addresses. A text file of nothing but addresses, one a line, is a list of those."""
    paths: list[Path] = []
    urls: list[str] = []
    for source in sources:
        if is_address(source):
            urls.append(source)
        elif listed := _listed(folder / source):
            urls += listed
        else:
            paths.append(folder / source)
    return paths, list(dict.fromkeys(urls))


def document_id(url: str) -> str:
    """`https://example.com/guide/?page=2` becomes `example.com/guide?page=2`."""
    parts = urlsplit(url)
    host = (parts.netloc.rpartition("@")[2]).lower()
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path.rstrip('/')}{query}"


def fetch_pages(
    urls: Sequence[str],
    *,
    known: Mapping[str, Document],
    private_hosts: Collection[str] = (),
    most_bytes: int,
    deadlines: Deadlines = DEADLINES,
    resolve: Resolve | None = None,
) -> Iterator[Fetched]:
    """Each address in turn, a few fetched at the same time; nothing is raised for one that fails.

    `known` are the documents of the last version by id: their marks are sent along, so that what did not change is not
    sent again. `private_hosts` names the hosts (`name` or `name:port`) in private networks that may be asked.
    """
    named = frozenset(host.lower() for host in private_hosts)
    getter = _Getter(known, named, most_bytes, deadlines, resolve or _resolve)
    # In a thread of its own, because a build may itself run inside an event loop.
    with ThreadPoolExecutor(1) as thread:
        for first in range(0, len(urls), AT_ONCE):
            yield from thread.submit(asyncio.run, getter.fetch_all(urls[first : first + AT_ONCE])).result()


@dataclass(frozen=True, slots=True)
class _Getter:
    known: Mapping[str, Document]
    private_hosts: frozenset[str]
    most_bytes: int
    deadlines: Deadlines
    resolve: Resolve

    async def fetch_all(self, urls: Sequence[str]) -> list[Fetched]:
        client = HttpClient(per_host=2)
        return list(await asyncio.gather(*(self._fetch(client, url) for url in urls)))

    async def _fetch(self, client: HttpClient, url: str) -> Fetched:
        id = document_id(url)
        before = self.known.get(id)
        state: State = "failed"
        try:
            async with asyncio.timeout(self.deadlines.total_s):
                return await self._follow(client, url, id, before)
        except Refused as wrong:
            state, reason = "gone", str(wrong)
        except ResponseTooLarge:
            state, reason = "gone", f"it has more than {self.most_bytes / 1e6:.0f} MB"
        except InputError as wrong:
            state, reason = "gone", str(wrong)
        except TimeoutError:
            reason = f"it did not arrive within {self.deadlines.total_s:g} s"
        except (UpstreamError, SlipwayError) as wrong:
            reason = str(wrong)
        return Fetched(url=url, id=id, state=state, reason=reason)

    async def _follow(self, client: HttpClient, url: str, id: str, before: Document | None) -> Fetched:
        at = url
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._ask(client, at, before)
            try:
                if response.status in {301, 302, 303, 307, 308}:
                    at = _redirected(at, response)
                    continue
                return await self._read(response, url, id, before)
            finally:
                response.close()
        raise Refused(f"it redirects more than {MOST_REDIRECTS} times")

    async def _ask(self, client: HttpClient, url: str, before: Document | None) -> Response:
        headers = [("accept-encoding", "identity"), ("user-agent", f"slipway/{__version__}"), ("accept", "*/*")]
        marks = before.metadata if before is not None else {}
        if etag := marks.get("etag"):
            headers.append(("if-none-match", etag))
        if last_modified := marks.get("last_modified"):
            headers.append(("if-modified-since", last_modified))
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise Refused("an address with a name or password in it is not fetched")
        request = prepare("GET", _written_out(parts), headers)
        address = await self._allowed_address(request.host.lower(), request.port)
        # To the very address that was checked: a name that is looked up twice may give two answers.
        pinned = replace(request, address=address)
        return await client.send_prepared(pinned, deadlines=self.deadlines, max_bytes=self.most_bytes)

    async def _allowed_address(self, host: str, port: int) -> str:
        try:
            addresses = await self.resolve(host, port)
        except OSError as wrong:
            raise UpstreamError(f"The host '{host}' is not known ({wrong.strerror or wrong}).") from wrong
        named = not self.private_hosts.isdisjoint({host, f"{host}:{port}"})
        for address in addresses:
            if not named and not is_public(address):
                raise Refused(
                    f"'{host}' lies in a private network ({address}). Where that is meant, name it: "
                    f'[retrieve] private_hosts = ["{host}:{port}"]'
                )
        if not addresses:
            raise UpstreamError(f"The host '{host}' has no address.")
        return addresses[0]

    async def _read(self, response: Response, url: str, id: str, before: Document | None) -> Fetched:
        if response.status == 304 and before is not None:
            return Fetched(url=url, id=id, state="unchanged")
        if response.status != 200:
            state: State = "gone" if response.status in GONE else "failed"
            return Fetched(url=url, id=id, state=state, reason=f"the server answers with status {response.status}")
        if (coding := _text(response, b"content-encoding")) not in {"", "identity"}:
            raise Refused(f"it is sent in the coding '{coding}', though none was asked for")
        kind, _, parameters = _text(response, b"content-type").partition(";")
        kind = kind.strip().lower()
        suffix = SUFFIXES.get(kind, "") or (Path(urlsplit(url).path).suffix.lower() if kind in TELLS_NOTHING else "")
        # A server that knows no Markdown or CSV sends it as plain text.
        own = Path(urlsplit(url).path).suffix.lower()
        suffix = own if suffix == ".txt" and own in {".md", ".markdown", ".csv", ".tsv"} else suffix
        if not suffix:
            raise Refused(f"content of type {kind or 'unknown'} is not read")
        content = await response.read()
        marks = {"etag": _text(response, b"etag"), "last_modified": _text(response, b"last-modified")}
        return Fetched(
            url=url,
            id=id,
            state="new",
            content=_as_utf8(content, parameters) if kind.startswith(("text/", "application/xhtml")) else content,
            suffix=suffix,
            marks={name: value for name, value in marks.items() if value},
        )


def is_public(address: str) -> bool:
    """Whether a network address belongs to the public internet, also where it wraps one of version 4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def _written_out(parts: SplitResult) -> str:
    """The address with what is no ASCII in its path and query as percent signs, and without a fragment."""
    path, query = (quote(piece, safe="%/:?=&@!$'()*+,;~[]|") for piece in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _redirected(url: str, response: Response) -> str:
    target = urljoin(url, _text(response, b"location").strip())
    if not is_address(target):
        raise Refused("it redirects to something that is no web address")
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise Refused("it redirects from https to http")
    return target


def _text(response: Response, name: bytes) -> str:
    return (response.header(name) or b"").decode("latin-1").strip()


def _as_utf8(content: bytes, parameters: str) -> bytes:
    named = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", parameters, re.I)
    if named is None or named[1].lower().replace("_", "-") in {"utf-8", "utf8"}:
        return content
    try:
        return content.decode(named[1], errors="replace").encode()
    except LookupError:
        return content


def _listed(path: Path) -> list[str]:
    if path.suffix.lower() not in {".txt", ".urls"} or not path.is_file() or path.stat().st_size > MOST_LIST_BYTES:
        return []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return named if all(is_address(line) for line in named) else []
