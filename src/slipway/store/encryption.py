"""Data keys per (project, person), wrapped by the master key, and the sealing of content with them."""

import hashlib
import hmac
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, func, select, update

from slipway.config.secrets import Secret
from slipway.domain.errors import ContentDamaged, ContentErased, MasterKeyInvalid, MasterKeyWrong
from slipway.store.databases.base import Database
from slipway.store.schema import data_key, project, setting
from slipway.store.store_counters import count_up

KEY_BYTES = 32
NONCE_BYTES = 12
SEAL_BYTES = 1 + 8 + NONCE_BYTES
"""Before the content of a sealed body: version, number of the key, nonce."""
KEYS_IN_MEMORY = 4096
EPOCH = "key_epoch"
CHECK = b"slipway master key check"


def master_key_bytes(secret: Secret) -> bytes:
    """The 32 bytes that a secret spells in hexadecimal. Raises `MasterKeyInvalid`."""
    try:
        raw = bytes.fromhex(secret.reveal().strip())
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise MasterKeyInvalid()
    return raw


def read_or_make_master_key(path: Path, *, may_make: bool) -> bytes:
    """The master key in `path` (64 hex digits, mode 0600); made when absent, if `may_make`. Raises `MasterKeyWrong`."""
    try:
        return master_key_bytes(Secret(path.read_text(encoding="ascii")))
    except FileNotFoundError:
        if not may_make:
            raise MasterKeyWrong(f"'{path}' (missing)") from None
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = os.urandom(KEY_BYTES)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return read_or_make_master_key(path, may_make=False)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(made.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return made


class Keys:
    """Seals and opens content. A sealed body is: format (1 byte), key id (8), nonce (12), AES-256-GCM text and tag.

    Associated data binds project, kind and id, so that one body cannot be put in the place of another.
    """

    def __init__(self, database: Database, project: str, master: bytes) -> None:
        self.database = database
        self.project = project
        self._master_bytes = master
        self._master = AESGCM(master)
        self._siblings: dict[str, Keys] = {}
        self._lock = threading.Lock()
        self._by_id: OrderedDict[int, AESGCM] = OrderedDict()
        self._by_subject: OrderedDict[str, int] = OrderedDict()
        self._epoch = -1
        database.when_rolled_back(self._forget)

    def check_master(self, source: str) -> None:
        """Raises `MasterKeyWrong` when the project was created with another master key; creates the project if new."""
        with self.database.reading() as connection:
            found = connection.execute(select(project.c.master_check).where(project.c.name == self.project)).scalar()
        if found is None:
            with self.database.transaction() as connection:
                nonce = os.urandom(NONCE_BYTES)
                connection.execute(
                    self.database.insert(project)
                    .values(
                        name=self.project,
                        created_us=time.time_ns() // 1000,
                        master_check=nonce + self._master.encrypt(nonce, CHECK, self.project.encode()),
                    )
                    .on_conflict_do_nothing()
                )
                found = connection.execute(
                    select(project.c.master_check).where(project.c.name == self.project)
                ).scalar_one()
        try:
            self._master.decrypt(found[:NONCE_BYTES], found[NONCE_BYTES:], self.project.encode())
        except InvalidTag:
            raise MasterKeyWrong(source) from None

    def seal(self, connection: Connection, body: bytes, *, subject: str | None, kind: str, id: str) -> bytes:
        """`connection` is of the transaction that writes the body, so that erasing and writing cannot overlap."""
        number, cipher = self._key_for(connection, subject or "")
        nonce = os.urandom(NONCE_BYTES)
        return b"\x01" + number.to_bytes(8, "big") + nonce + cipher.encrypt(nonce, body, self._bound(kind, id))

    def open(self, connection: Connection, sealed: bytes, *, kind: str, id: str) -> bytes:
        """Raises `ContentErased` when the key is gone, `ContentDamaged` when the body is not what was sealed there."""
        cipher = self._key(connection, int.from_bytes(sealed[1:9], "big"))
        if cipher is None:
            raise ContentErased(kind, id)
        try:
            return cipher.decrypt(sealed[9:SEAL_BYTES], sealed[SEAL_BYTES:], self._bound(kind, id))
        except InvalidTag:
            raise ContentDamaged(kind, id) from None

    def can_open(self, connection: Connection, sealed: bytes) -> bool:
        """Whether the key of a sealed body is still there."""
        return self._key(connection, int.from_bytes(sealed[1:9], "big")) is not None

    def prepare(self, connection: Connection, subjects: Collection[str]) -> None:
        """Reads the keys of many people at once, and makes those that are missing, so that sealing asks for none.

        "" stands for nobody. More than fit into memory are left to `seal`.
        """
        self._refresh(connection)
        with self._lock:
            wanted = [subject for subject in subjects if subject not in self._by_subject][: KEYS_IN_MEMORY // 2]
        if len(wanted) < 2:
            return
        found = self._read_keys(connection, wanted)
        missing = [subject for subject in wanted if subject not in found]
        if missing:
            numbers = self.database.dialect.next_ids(connection, "data_key", len(missing))
            now = time.time_ns() // 1000
            made = {subject: (number, os.urandom(KEY_BYTES)) for number, subject in zip(numbers, missing, strict=True)}
            connection.execute(
                self.database.insert(data_key).on_conflict_do_nothing(),
                [
                    {
                        "id": number,
                        "project": self.project,
                        "subject": subject,
                        "wrapped": self._wrap(self._master, number, raw),
                        "created_us": now,
                    }
                    for subject, (number, raw) in made.items()
                ],
            )
            # Read again: where another process was quicker, its key counts.
            found |= self._read_keys(connection, missing)
        with self._lock:
            for subject, (number, wrapped) in found.items():
                self._by_id[number] = AESGCM(self._unwrap(number, wrapped))
                self._by_subject[subject] = number
            for known in (self._by_id, self._by_subject):
                while len(known) > KEYS_IN_MEMORY:
                    known.popitem(last=False)

    def _read_keys(self, connection: Connection, subjects: list[str]) -> dict[str, tuple[int, bytes]]:
        found: dict[str, tuple[int, bytes]] = {}
        for at in range(0, len(subjects), 400):
            statement = select(data_key.c.subject, data_key.c.id, data_key.c.wrapped).where(
                data_key.c.project == self.project, data_key.c.subject.in_(subjects[at : at + 400])
            )
            found |= {row.subject: (row.id, row.wrapped) for row in connection.execute(statement) if row.wrapped}
        return found

    def of(self, project_name: str) -> "Keys":
        """The keys of another project under the same master key."""
        if project_name == self.project:
            return self
        with self._lock:
            if project_name not in self._siblings:
                self._siblings[project_name] = Keys(self.database, project_name, self._master_bytes)
            return self._siblings[project_name]

    def epoch(self) -> int:
        """A number that grows whenever anybody's key is erased: what is kept outside the store may hold them."""
        with self.database.reading() as connection:
            return int(connection.execute(select(setting.c.value).where(setting.c.name == EPOCH)).scalar() or 0)

    def subjects(self) -> list[str]:
        """Everybody whose key is there, in order."""
        with self.database.reading() as connection:
            rows = connection.execute(
                select(data_key.c.subject)
                .where(data_key.c.project == self.project, data_key.c.subject != "", data_key.c.erased_us.is_(None))
                .order_by(data_key.c.subject)
            )
            return [row.subject for row in rows]

    def erase(self, subject: str) -> int:
        """Destroys the keys of one person for good; returns how many there were. What they sealed stays unreadable."""
        with self.database.transaction() as connection:
            # First, so that writers that hold the epoch finish before, and those that come later see the new one.
            self._next_epoch(connection)
            done = connection.execute(
                update(data_key)
                .where(data_key.c.project == self.project, data_key.c.subject == subject)
                .values(wrapped=None, subject=None, erased_us=time.time_ns() // 1000)
            )
        self._forget()
        return done.rowcount

    def rewrap(self, new_master: Secret) -> int:
        """Wraps every key of the project with another master key and returns their number; no content is rewritten."""
        raw_master = master_key_bytes(new_master)
        master = AESGCM(raw_master)
        with self.database.transaction() as connection:
            self._next_epoch(connection)
            rows = connection.execute(
                select(data_key.c.id, data_key.c.wrapped).where(
                    data_key.c.project == self.project, data_key.c.wrapped.is_not(None)
                )
            ).all()
            for row in rows:
                raw = self._unwrap(row.id, row.wrapped)
                connection.execute(
                    update(data_key).where(data_key.c.id == row.id).values(wrapped=self._wrap(master, row.id, raw))
                )
            nonce = os.urandom(NONCE_BYTES)
            check = nonce + master.encrypt(nonce, CHECK, self.project.encode())
            connection.execute(update(project).where(project.c.name == self.project).values(master_check=check))
        self._master, self._master_bytes = master, raw_master
        self._forget()
        return len(rows)

    def pseudonym(self, subject: str) -> str:
        """A keyed fingerprint of a person's id, for reports and the audit log: 16 hex digits."""
        nonce = hashlib.sha256(b"slipway pseudonym").digest()[:NONCE_BYTES]
        keyed = self._master.encrypt(nonce, subject.encode(), None)
        return hashlib.sha256(keyed).hexdigest()[:16]

    def secret_for(self, purpose: str) -> bytes:
        """32 bytes that only holders of the master key know, others for each project and purpose. Another master key
        gives other ones."""
        return hmac.digest(self._master_bytes, f"slipway {purpose}\0{self.project}".encode(), "sha256")

    def _bound(self, kind: str, id: str) -> bytes:
        return f"{self.project}\0{kind}\0{id}".encode()

    def _forget(self) -> None:
        with self._lock:
            self._by_id.clear()
            self._by_subject.clear()
            self._epoch = -1

    def _next_epoch(self, connection: Connection) -> None:
        count_up(self.database, connection, EPOCH)

    def _refresh(self, connection: Connection) -> None:
        """Forgets keys in memory when any process erased one since. Once a transaction: its snapshot stands still."""
        seen = connection.info.get(EPOCH)
        if seen is not None and connection.in_transaction() and seen[0] is connection.get_transaction():
            epoch = seen[1]
        else:
            statement = select(setting.c.value).where(setting.c.name == EPOCH)
            if self.database.in_transaction:
                statement = statement.with_for_update(read=True)
            epoch = connection.execute(statement).scalar() or 0
            connection.info[EPOCH] = (connection.get_transaction(), epoch)
        with self._lock:
            if epoch != self._epoch:
                self._by_id.clear()
                self._by_subject.clear()
                self._epoch = epoch

    def _key_for(self, connection: Connection, subject: str) -> tuple[int, AESGCM]:
        self._refresh(connection)
        with self._lock:
            number = self._by_subject.get(subject)
            if number is not None and number in self._by_id:
                self._by_id.move_to_end(number)
                return number, self._by_id[number]
        where = (data_key.c.project == self.project) & (data_key.c.subject == subject)
        number = connection.execute(select(data_key.c.id).where(where)).scalar()
        if number is None:
            self._make(connection, subject)
            number = connection.execute(select(data_key.c.id).where(where)).scalar_one()
        cipher = self._key(connection, number)
        assert cipher is not None, "a key that is found by its person was not erased"
        with self._lock:
            self._by_subject[subject] = number
            while len(self._by_subject) > KEYS_IN_MEMORY:
                self._by_subject.popitem(last=False)
        return number, cipher

    def _make(self, connection: Connection, subject: str) -> None:
        made = connection.execute(
            self.database.insert(data_key)
            .values(project=self.project, subject=subject, created_us=time.time_ns() // 1000)
            .on_conflict_do_nothing()
            .returning(data_key.c.id)
        ).scalar()
        if made is not None:
            wrapped = self._wrap(self._master, made, os.urandom(KEY_BYTES))
            connection.execute(update(data_key).where(data_key.c.id == made).values(wrapped=wrapped))

    def _key(self, connection: Connection, number: int) -> AESGCM | None:
        self._refresh(connection)
        with self._lock:
            known = self._by_id.get(number)
            if known is not None:
                self._by_id.move_to_end(number)
                return known
        row = connection.execute(
            select(data_key.c.wrapped).where(data_key.c.id == number, data_key.c.project == self.project)
        ).first()
        if row is None or row.wrapped is None:
            return None
        cipher = AESGCM(self._unwrap(number, row.wrapped))
        with self._lock:
            self._by_id[number] = cipher
            while len(self._by_id) > KEYS_IN_MEMORY:
                self._by_id.popitem(last=False)
        return cipher

    def _wrap(self, master: AESGCM, number: int, raw: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + master.encrypt(nonce, raw, f"{self.project}\0{number}".encode())

    def _unwrap(self, number: int, wrapped: bytes) -> bytes:
        try:
            return self._master.decrypt(
                wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], f"{self.project}\0{number}".encode()
            )
        except InvalidTag:
            raise MasterKeyWrong("the settings") from None


def key_count(database: Database, project_name: str) -> int:
    """Number of live data keys of a project."""
    with database.reading() as connection:
        statement = select(func.count()).select_from(data_key)
        return connection.execute(
            statement.where(data_key.c.project == project_name, data_key.c.wrapped.is_not(None))
        ).scalar_one()
