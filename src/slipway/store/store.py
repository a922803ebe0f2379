"""The handle on everything that a project keeps, and how it is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from slipway.config.secrets import Secret
from slipway.store.audit_log import AuditLog
from slipway.store.blobs import Blobs
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys, key_count, master_key_bytes, read_or_make_master_key
from slipway.store.job_rows import JobRows
from slipway.store.lineage import Lineage
from slipway.store.opening import open_database
from slipway.store.plain_records import PlainRecords
from slipway.store.positions import Positions
from slipway.store.records import Records
from slipway.store.span_events import SpanEvents
from slipway.store.spending import SpendingBook
from slipway.store.traces import Traces


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Handles of one project over one database. Safe to share between threads."""

    database: Database
    project: str
    folder: Path
    """Where blobs and journals lie: the application's .slipway folder."""
    keys: Keys
    lineage: Lineage
    records: Records
    plain_records: PlainRecords
    traces: Traces
    span_events: SpanEvents
    positions: Positions
    spending: SpendingBook
    audit: AuditLog
    jobs: JobRows
    blobs: Blobs
    _master: bytes = field(repr=False)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen, or none; may be nested. It must not span an `await`."""
        with self.database.transaction():
            yield

    def of(self, project: str) -> "Store":
        """The same database for another project. Raises `MasterKeyWrong` when that project has another master key."""
        return _handles(self.database, project, self.folder, self._master, source="the settings")

    @property
    def journal_folder(self) -> Path:
        return self.folder / "journal"

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(url: str, *, project: str, folder: Path, master_key: Secret) -> Store:
    """The store of a project; creates or migrates its database.

    An empty `master_key` stands for the file master.key in `folder`, which is made for a new project.
    Raises `StoreUnavailable`, `StoreTooNew`, `MasterKeyInvalid`, `MasterKeyWrong`.
    """
    database = open_database(url)
    try:
        if master_key:
            master, source = master_key_bytes(master_key), "the settings ([privacy] master_key)"
        else:
            path = folder / "master.key"
            # A store that already has keys never gets a fresh master key: it could not open them.
            master = read_or_make_master_key(path, may_make=key_count(database, project) == 0)
            source = f"'{path}'"
        return _handles(database, project, folder, master, source=source)
    except BaseException:
        database.close()
        raise


def _handles(database: Database, project: str, folder: Path, master: bytes, *, source: str) -> Store:
    keys = Keys(database, project, master)
    keys.check_master(source)
    lineage = Lineage(database, project)
    traces = Traces(database, project, keys)
    return Store(
        database=database,
        project=project,
        folder=folder,
        keys=keys,
        lineage=lineage,
        records=Records(database, project, keys, lineage),
        plain_records=PlainRecords(database, project, keys),
        traces=traces,
        span_events=SpanEvents(database, project, keys, traces),
        positions=Positions(database, project),
        spending=SpendingBook(database, project),
        audit=AuditLog(database, project),
        jobs=JobRows(database, project, keys),
        blobs=Blobs(folder / "blobs"),
        _master=master,
    )
