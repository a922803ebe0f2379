"""The bootstrap hands pip's settings to uv, and does nothing when nothing changed."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETTINGS = [
    pytest.param({"find-links": "a b"}, {"UV_FIND_LINKS": "a,b"}, id="several folders of wheels"),
    pytest.param({"index-url": "https://x/simple"}, {"UV_DEFAULT_INDEX": "https://x/simple"}, id="another index"),
    pytest.param(
        {"extra-index-url": "https://x\nhttps://y"},
        {"UV_INDEX": "https://x https://y", "UV_INDEX_STRATEGY": "unsafe-best-match"},
        id="more indexes, one a line, of which pip takes the best version",
    ),
    pytest.param({"no-index": "true"}, {"UV_NO_INDEX": "1"}, id="no index at all"),
    pytest.param({"cert": "/certs.pem"}, {"SSL_CERT_FILE": "/certs.pem"}, id="own certificates"),
    pytest.param({"default-timeout": "60"}, {"UV_HTTP_TIMEOUT": "60"}, id="patience"),
    pytest.param({"disable-pip-version-check": "1"}, {}, id="what only pip understands is left out"),
]


@pytest.mark.parametrize(("pip", "uv"), SETTINGS)
def test_what_pip_was_told_is_told_to_uv(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, pip: dict[str, str], uv: dict[str, str]
) -> None:
    for name in ("UV_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_NO_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert bootstrap.uv_settings(pip) == uv


def test_what_the_user_told_uv_stays(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", "mine")
    assert bootstrap.uv_settings({"find-links": "a"}) == {}


def test_a_variable_of_pip_wins_over_its_files(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://from-the-environment/simple")
    assert bootstrap.read_pip_settings()["index-url"] == "https://from-the-environment/simple"


def test_an_unknown_command_is_refused_with_the_usage() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bootstrap.py"), "dmeo"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Unknown command 'dmeo'" in done.stdout
    assert "demo|test|install" in done.stdout


def test_a_changed_lock_asks_for_a_new_installation(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("local.lock", "dev.lock", "train.lock", "weights.txt", "build.lock"):
        (tmp_path / name).write_text("before")
    monkeypatch.setattr(bootstrap, "LOCKS", tmp_path)
    demo, test = bootstrap.digest("demo"), bootstrap.digest("test")
    (tmp_path / "dev.lock").write_text("after")
    assert bootstrap.digest("demo") == demo, "the demo does not read dev.lock"
    assert bootstrap.digest("test") != test
