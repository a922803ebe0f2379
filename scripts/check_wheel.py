"""Builds the wheel, installs it bare in a new environment, and uses it there: version, doctor, demo, every page."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bootstrap import LOCKS, ROOT, UV, read_pip_settings, uv_settings

# A crawl that finds more pages than this is walking in circles.
MOST_PAGES = 400
SECONDS_TO_START = 120


class Broken(Exception):
    """The installed wheel does not do what the checkout does."""


class Wheel:
    """A bare environment with the wheel and the base lock in it, and an empty folder to work in."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.venv = scratch / "venv"
        self.bin = self.venv / ("Scripts" if os.name == "nt" else "bin")
        self.environment = {
            name: value
            for name, value in {**os.environ, **uv_settings(read_pip_settings())}.items()
            if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
        }

    def uv(self, *arguments: str) -> None:
        """Run the project's uv, which puts the wheel where it belongs."""
        subprocess.run([str(UV), *arguments, "--quiet"], cwd=ROOT, env=self.environment, check=True)

    def install(self) -> Path:
        """Build, then install into a new environment with the base lock and nothing else."""
        build_lock = str(LOCKS / "build.lock")
        self.uv(
            "build", "--wheel", "--out-dir", str(self.scratch), "--build-constraints", build_lock, "--require-hashes"
        )
        wheel = next(self.scratch.glob("*.whl"))
        python = str(self.bin / "python")
        self.uv("venv", "--python", sys.executable, str(self.venv))
        self.uv("pip", "install", "--python", python, "--require-hashes", "-r", str(LOCKS / "base.lock"))
        self.uv("pip", "install", "--python", python, "--no-deps", str(wheel))
        return wheel

    def slipway(self, *arguments: str) -> str:
        """Run the installed command in the scratch folder and give back what it printed. Raises `Broken`."""
        command = [str(self.bin / "slipway"), *arguments]
        done = subprocess.run(command, cwd=self.scratch, env=self.environment, text=True, capture_output=True)
        if done.returncode != 0:
            raise Broken(f"slipway {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def pages(self) -> list[str]:
        """The addresses of all pages that need no name in them, as the wheel itself lists them."""
        code = "import json; from slipway.web.app import page_paths; print(json.dumps(list(page_paths())))"
        command = [str(self.bin / "python"), "-c", code]
        listed = subprocess.run(command, cwd=self.scratch, env=self.environment, text=True, capture_output=True)
        if listed.returncode != 0:
            raise Broken(f"the wheel cannot list its pages:\n{listed.stderr}")
        return [path for path in json.loads(listed.stdout) if "{" not in path]

    @contextmanager
    def serving(self, folder: Path) -> Iterator[str]:
        """The server of the wheel on a free port, until the block ends."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(self.bin / "slipway"), "serve", "--dir", str(folder), "--port", str(port)]
        log = self.scratch / "server.log"
        with log.open("w") as output:
            server = subprocess.Popen(command, cwd=self.scratch, env=self.environment, stdout=output, stderr=output)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/healthz", server, log)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers; say what it printed when it ends or takes too long."""
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise Broken(f"the server did not answer at {url}:\n{log.read_text()}")


class Links(HTMLParser):
    """Collects what a page points to: other pages, and the files it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[str] = []
        self.files: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "a" and named.get("href") and "download" not in named:
            self.pages.append(str(named["href"]))
        elif tag in {"link", "use"} and named.get("href"):
            self.files.append(str(named["href"]))
        elif tag in {"script", "img"} and named.get("src"):
            self.files.append(str(named["src"]))


def get(url: str) -> tuple[int, str, str]:
    """Status, content type and text of one address."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.headers.get("content-type", ""), answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as wrong:
        return wrong.code, "", wrong.read().decode("utf-8", "replace")
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as wrong:
        return 0, "", str(wrong)


def open_every_page(address: str, paths: list[str]) -> tuple[int, int]:
    """Open all pages, all pages they link to, and all files they load. Raises `Broken` with each address that fails."""
    waiting = [urljoin(address, path) for path in paths]
    seen = set(waiting)
    files: set[str] = set()
    failed: list[str] = []
    while waiting and len(seen) <= MOST_PAGES:
        url = waiting.pop(0)
        status, kind, text = get(url)
        if status != 200:
            failed.append(f"{status} {url}: {text[:200]}")
            continue
        if not kind.startswith("text/html"):
            continue
        links = Links()
        links.feed(text)
        for link in links.pages + links.files:
            target = urldefrag(urljoin(url, link)).url
            if urlsplit(target).netloc != urlsplit(address).netloc:
                if link in links.files:
                    failed.append(f"{url} loads {target} from another host")
            elif link in links.files:
                files.add(target)
            elif target not in seen:
                seen.add(target)
                waiting.append(target)
    failed += [f"{status} {file}" for file in sorted(files) if (status := get(file)[0]) != 200]
    if failed:
        raise Broken("these addresses do not load from the wheel:\n" + "\n".join(failed))
    if not files:
        raise Broken("no page loads a style sheet or a script: the static files are missing from the wheel")
    return len(seen), len(files)


def main() -> int:
    """Each step with its result; the first that fails ends the run."""
    with tempfile.TemporaryDirectory(prefix="slipway-wheel-") as folder:
        wheel = Wheel(Path(folder))
        application = Path(folder) / "demo"
        try:
            built = wheel.install()
            print(f"wheel      {built.name}, {built.stat().st_size / 1e6:.1f} MB", flush=True)
            print(f"version    {wheel.slipway('--version').strip()}", flush=True)
            told = json.loads(wheel.slipway("demo", "--no-serve", "--json", "--dir", str(application)))
            worked = [name for name, stage in told["stages"].items() if stage["ok"]]
            if len(worked) != len(told["stages"]) or len(worked) != 11:
                raise Broken(f"the demo finished {len(worked)} of 11 stages: {json.dumps(told['stages'], indent=1)}")
            print(f"demo       {len(worked)} stages, releases {', '.join(told['releases'])}", flush=True)
            print(f"doctor     {wheel.slipway('doctor', '--dir', str(application)).strip()}", flush=True)
            with wheel.serving(application) as address:
                pages, files = open_every_page(address, wheel.pages())
            print(f"pages      {pages} opened, {files} files loaded", flush=True)
        except (Broken, subprocess.CalledProcessError) as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
