"""Runs the migrations that a database lacks, inside the caller's transaction."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


def migrate(connection: Connection, *, to: str = "head") -> None:
    """Takes the database from its version to `to`."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def known_versions() -> list[str]:
    """Every migration of this version of Slipway, newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config
