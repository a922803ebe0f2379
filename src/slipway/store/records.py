"""Records: every noun that is kept but not hot, sealed, with its name, version, state and links."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
from sqlalchemy import Connection, LargeBinary, Row, bindparam, delete, func, select, update

from slipway.domain.access import ApiKey
from slipway.domain.cache import CachedAnswer
from slipway.domain.dataset import Dataset
from slipway.domain.deployment import DecisionRecord, Plan
from slipway.domain.errors import ContentErased, NotFound
from slipway.domain.evaluation import Comparison, Evaluation, FinishedCase
from slipway.domain.feedback import Alert, Draft, Feedback, Finding
from slipway.domain.ids import hash_bytes
from slipway.domain.index import Index
from slipway.domain.prompt import Prompt
from slipway.domain.release import Channel, Evidence, Release
from slipway.domain.review import Review, ReviewItem, SignOff
from slipway.domain.settings_comparison import SettingsComparison
from slipway.domain.training import TrainingRun, TrainingSet
from slipway.store.databases.base import Database
from slipway.store.encryption import SEAL_BYTES, Keys
from slipway.store.lineage import Edge, Lineage, Thing
from slipway.store.record_writes import count_writes, writes_of
from slipway.store.schema import erased, record, record_link, record_part

RECENT_S = 1.0
"""As long as a gateway takes at most to hear of what other processes wrote."""
MOST_RECENT = 64
IDS_AT_ONCE = 500
"""Of records that one statement asks for."""
Noun = TypeVar("Noun")
Many = list
"""`list` under a name that the method `Records.list` does not hide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a noun becomes a record. `links` are fields that can be asked for; `parts` is a tuple of members of which
    each may be about a person of its own (`subject`) and is then sealed under that person's key."""

    kind: str
    name: str = ""
    """Field that holds the name, or empty."""
    created: str = "created_at"
    links: tuple[str, ...] = ()
    parts: str = ""
    id: Callable[[Any], str] | None = None
    """By default the field `id` where it is not empty, else `name@version`, else the hash of the content."""


KINDS: dict[type[Any], Kind] = {
    Prompt: Kind(kind="prompt", name="name"),
    Index: Kind(kind="index", name="name"),
    SettingsComparison: Kind(kind="settings_comparison", name="index"),
    Dataset: Kind(kind="dataset", name="name", parts="cases"),
    Release: Kind(kind="release", name="application", links=("number",)),
    Evidence: Kind(kind="evidence", name="suite", links=("release", "kind")),
    Channel: Kind(kind="channel", name="name", created="changed_at", id=lambda channel: str(channel.name)),
    Evaluation: Kind(kind="evaluation", name="suite", created="started_at", links=("release",), parts="results"),
    FinishedCase: Kind(kind="finished_case", links=("run",)),
    Comparison: Kind(kind="comparison", name="metric", links=("before_release", "after_release")),
    ReviewItem: Kind(kind="review_item", links=("release", "trace")),
    Review: Kind(kind="review", links=("item", "release")),
    SignOff: Kind(kind="sign_off", name="role", links=("release",)),
    Feedback: Kind(kind="feedback", links=("trace", "score", "name", "label")),
    Finding: Kind(kind="finding", links=("kind", "route", "release")),
    Draft: Kind(kind="draft", links=("finding", "route")),
    Alert: Kind(kind="alert", name="key", links=("release",)),
    DecisionRecord: Kind(kind="decision", name="application"),
    Plan: Kind(kind="plan", name="application"),
    TrainingSet: Kind(kind="training_set", name="name", parts="pairs"),
    TrainingRun: Kind(kind="training_run", name="application", links=("method",)),
    ApiKey: Kind(kind="api_key", name="name", links=("hash",)),
    CachedAnswer: Kind(kind="cached_answer", links=("release",)),
}


def register(cls: type[Any], kind: Kind) -> None:
    """Adds a noun of a room above the store. The same class may be registered again with the same kind."""
    for known, other in KINDS.items():
        if other.kind == kind.kind and known is not cls and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"'{kind.kind}' already stands for {known.__qualname__}")
    KINDS[cls] = kind


def kind_of(cls: type[Any]) -> Kind:
    """Raises `TypeError` for a class that is in no line of `KINDS`."""
    try:
        return KINDS[cls]
    except KeyError:
        raise TypeError(f"{cls.__qualname__} is no record: add a line to KINDS in store/records.py") from None


def id_of(noun: Any) -> str:
    """The id under which a noun is kept."""
    kind = kind_of(type(noun))
    if kind.id is not None:
        return kind.id(noun)
    if getattr(noun, "id", ""):
        return str(noun.id)
    if hasattr(noun, "name") and hasattr(noun, "version"):
        return f"{noun.name}@{noun.version}"
    return hash_bytes(msgspec.json.encode(noun, order="sorted"))[:26]


class _Recent(NamedTuple):
    """A record that was read, after so many writes; it may be used until then."""

    noun: Any
    writes: int
    until: float


class Read(NamedTuple, Generic[Noun]):
    """A record that was read, and how its sealed body began then."""

    noun: Noun
    begin: bytes


class _Written(NamedTuple):
    """A record as its tables hold it."""

    kind: str
    id: str
    row: dict[str, Any]
    parts: Many[dict[str, Any]]
    links: Many[dict[str, Any]]

    @property
    def key(self) -> Thing:
        return self.kind, self.id


class Records:
    """The records of one project."""

    def __init__(self, database: Database, project: str, keys: Keys, lineage: Lineage) -> None:
        self.database, self.project, self.keys, self.lineage = database, project, keys, lineage
        self._recent: dict[tuple[type[Any], str], _Recent] = {}

    def save(
        self,
        noun: Any,
        *,
        subject: str | None = None,
        state: str = "",
        parents: Sequence[tuple[str, str]] = (),
        transform: str = "",
    ) -> str:
        """Writes a record or writes over it, and the edges to what it was made from; returns its id.

        `subject` is by default the noun's own. `state` is by default the noun's own; a record that has a state keeps
        it when none is given.
        """
        with self.database.transaction() as connection:
            written = self._sealed(connection, noun, subject, state)
            self._write(connection, [written])
            for parent in parents:
                self.lineage.add(child=written.key, parent=parent, transform=transform)
        return written.id

    def save_all(self, nouns: Sequence[Noun], *, parents: Callable[[Noun], Many[Thing]], transform: str = "") -> None:
        """As `save` of each, in one transaction and for a fraction of the time. No id twice."""
        with self.database.transaction() as connection:
            written = [self._sealed(connection, noun, None, "") for noun in nouns]
            self._write(connection, written)
            self.lineage.add_all(
                Edge(one.key, parent, transform)
                for noun, one in zip(nouns, written, strict=True)
                for parent in parents(noun)
            )

    def _sealed(self, connection: Connection, noun: Any, subject: str | None, state: str) -> "_Written":
        """The rows of a record, as they will be written."""
        kind = kind_of(type(noun))
        id = id_of(noun)
        subject = subject or getattr(noun, "subject", None) or None
        whole, own = _split(noun, kind)
        here = {"project": self.project, "kind": kind.kind, "id": id}
        row = here | {
            "subject": subject,
            "name": str(getattr(noun, kind.name)) if kind.name else "",
            "version": int(getattr(noun, "version", 0) or getattr(noun, "number", 0)),
            "hash": str(getattr(noun, "hash", "")),
            "state": state or str(getattr(noun, "state", "") or ""),
            "created_us": _created_us(noun, kind),
            "body": self.keys.seal(connection, msgspec.json.encode(whole), subject=subject, kind=kind.kind, id=id),
        }
        parts = [
            here
            | {
                "position": position,
                "subject": part.subject,
                "body": self.keys.seal(
                    connection,
                    msgspec.json.encode(part),
                    subject=part.subject,
                    kind=kind.kind,
                    id=f"{id}#{position}",
                ),
            }
            for position, part in own
        ]
        links = [
            here | {"field": field, "value": str(value)}
            for field in kind.links
            if (value := getattr(noun, field)) is not None
        ]
        return _Written(kind.kind, id, row, parts, links)

    def _write(self, connection: Connection, written: Sequence["_Written"]) -> None:
        if not written:
            return
        for keep in ((), ("state",)):
            rows = [one.row for one in written if bool(one.row["state"]) != bool(keep)]
            if rows:
                connection.execute(self.database.upsert(record, ("project", "kind", "id"), keep=keep), rows)
        count_writes(self.database, connection, self.project, {one.kind for one in written})
        old = [{"of_project": self.project, "of_kind": one.kind, "of_id": one.id} for one in written]
        for table in (record_part, record_link, erased):
            gone = delete(table).where(
                table.c.project == bindparam("of_project"),
                table.c.kind == bindparam("of_kind"),
                table.c.id == bindparam("of_id"),
            )
            connection.execute(gone, old)
        parts = [row for one in written for row in one.parts]
        if parts:
            connection.execute(self.database.insert(record_part), parts)
        links = [row for one in written for row in one.links]
        if links:
            connection.execute(self.database.insert(record_link), links)

    def get(self, cls: type[Noun], id: str) -> Noun:
        """Raises `NotFound` with a near name, `ContentErased` when it went with its person."""
        kind = kind_of(cls)
        with self.database.reading() as connection:
            row = connection.execute(select(record).where(*_one(self.project, kind.kind, id)(record))).first()
            if row is not None:
                return self._open(connection, cls, kind, row)
            if connection.execute(select(erased.c.id).where(*_one(self.project, kind.kind, id)(erased))).first():
                raise ContentErased(kind.kind, id)
            known = connection.execute(
                select(record.c.id)
                .where(record.c.project == self.project, record.c.kind == kind.kind)
                .order_by(record.c.created_us.desc())
                .limit(200)
            ).scalars()
            raise NotFound(kind.kind.replace("_", " "), id, known=list(known))

    def recent(self, cls: type[Noun], id: str) -> Noun:
        """As `get`, but what was read less than a second ago is not read again, unless this process has written since.

        For what every request needs: to open a record takes longer than to search an index. Raises as `get`.
        """
        if self.database.in_transaction:
            return self.get(cls, id)
        known = self._recent.get((cls, id))
        if known is not None and known.writes == self.database.writes and monotonic() < known.until:
            noun: Noun = known.noun
            return noun
        writes, until = self.database.writes, monotonic() + RECENT_S
        noun = self.get(cls, id)
        if len(self._recent) >= MOST_RECENT:
            self._recent.clear()
        self._recent[cls, id] = _Recent(noun, writes, until)
        return noun

    def find(self, cls: type[Noun], id: str) -> Noun | None:
        """None when there is no such record or it was erased."""
        try:
            return self.get(cls, id)
        except (NotFound, ContentErased):
            return None

    def list(
        self,
        cls: type[Noun],
        *,
        name: str | None = None,
        state: str | None = None,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
        before: datetime | None = None,
        after: datetime | None = None,
        newest_first: bool = True,
    ) -> Many[Noun]:
        """Records by time of creation. `where` compares fields as text: linked fields by index, others after opening.

        `before` leaves out what was created at that moment or later, `after` what was created before. Erased ones are
        left out.
        """
        kind = kind_of(cls)
        statement = select(record).where(record.c.project == self.project, record.c.kind == kind.kind)
        if name is not None:
            statement = statement.where(record.c.name == name)
        if state is not None:
            statement = statement.where(record.c.state == state)
        if before is not None:
            statement = statement.where(record.c.created_us < _microseconds(before))
        if after is not None:
            statement = statement.where(record.c.created_us >= _microseconds(after))
        opened_first = {}
        for field, value in (where or {}).items():
            if field not in kind.links:
                opened_first[field] = str(value)
                continue
            statement = statement.where(
                record.c.id.in_(
                    select(record_link.c.id).where(
                        record_link.c.project == self.project,
                        record_link.c.kind == kind.kind,
                        record_link.c.field == field,
                        record_link.c.value == str(value),
                    )
                )
            )
        order = (record.c.created_us, record.c.version, record.c.id)
        statement = statement.order_by(*(column.desc() if newest_first else column for column in order))
        if limit is not None and not opened_first:
            statement = statement.limit(limit)
        found: list[Noun] = []
        with self.database.reading() as connection:
            for row in connection.execute(statement).all():
                try:
                    noun = self._open(connection, cls, kind, row)
                except ContentErased:
                    continue
                if all(str(getattr(noun, field)) == value for field, value in opened_first.items()):
                    found.append(noun)
                if limit is not None and len(found) >= limit:
                    break
        return found

    def count(self, cls: type[Any], *, name: str | None = None, state: str | None = None) -> int:
        """Number of records, without opening them."""
        kind = kind_of(cls)
        statement = (
            select(func.count()).select_from(record).where(record.c.project == self.project, record.c.kind == kind.kind)
        )
        if name is not None:
            statement = statement.where(record.c.name == name)
        if state is not None:
            statement = statement.where(record.c.state == state)
        with self.database.reading() as connection:
            return connection.execute(statement).scalar_one()

    def writes(self, *classes: type[Any]) -> tuple[int, ...]:
        """How often records of each class were written by anybody, for the kinds that are watched: equal to earlier
        numbers where nothing was. Opens and looks through no records, so that who asks every second hardly notices."""
        with self.database.reading() as connection:
            return writes_of(connection, self.project, [kind_of(cls).kind for cls in classes])

    def read_again(self, cls: type[Noun], known: Mapping[str, "Read[Noun]"]) -> dict[str, "Read[Noun]"]:
        """Every record of a class without parts, by id. What stands in `known`, from an earlier call, and was not
        written since is not opened again. Erased ones are left out."""
        kind = kind_of(cls).kind
        mine = (record.c.project == self.project, record.c.kind == kind)
        # Sealed anew whenever it is written, a body never begins twice in the same way.
        begin = func.substr(record.c.body, 1, SEAL_BYTES, type_=LargeBinary).label("begin")
        found: dict[str, Read[Noun]] = {}
        changed: list[str] = []
        with self.database.reading() as connection:
            for id, now in connection.execute(select(record.c.id, begin).where(*mine)):
                before = known.get(id)
                if before is not None and before.begin == now:
                    found[id] = before
                else:
                    changed.append(id)
            for first in range(0, len(changed), IDS_AT_ONCE):
                ids = changed[first : first + IDS_AT_ONCE]
                for id, body in connection.execute(
                    select(record.c.id, record.c.body).where(*mine, record.c.id.in_(ids))
                ):
                    try:
                        raw = self.keys.open(connection, body, kind=kind, id=id)
                    except ContentErased:
                        continue
                    found[id] = Read(msgspec.json.decode(raw, type=cls), bytes(body[:SEAL_BYTES]))
        return found

    def latest(self, cls: type[Noun], name: str) -> Noun | None:
        """The highest version of a name; the newest where the noun has no versions."""
        kind = kind_of(cls)
        statement = (
            select(record)
            .where(record.c.project == self.project, record.c.kind == kind.kind, record.c.name == name)
            .order_by(record.c.version.desc(), record.c.created_us.desc(), record.c.id.desc())
            .limit(1)
        )
        with self.database.reading() as connection:
            row = connection.execute(statement).first()
            return None if row is None else self._open(connection, cls, kind, row)

    def names(self, cls: type[Any]) -> Many[str]:
        """Every name of a kind, in order."""
        kind = kind_of(cls)
        statement = (
            select(record.c.name)
            .where(record.c.project == self.project, record.c.kind == kind.kind)
            .distinct()
            .order_by(record.c.name)
        )
        with self.database.reading() as connection:
            return [str(name) for name in connection.execute(statement).scalars()]

    def next_version(self, cls: type[Any], name: str) -> int:
        """1 more than the highest version of a name. Call it inside the transaction that saves the version."""
        kind = kind_of(cls)
        statement = select(func.max(record.c.version)).where(
            record.c.project == self.project, record.c.kind == kind.kind, record.c.name == name
        )
        with self.database.reading() as connection:
            return (connection.execute(statement).scalar() or 0) + 1

    def set_state(self, cls: type[Any], id: str, state: str) -> None:
        """Changes the state column only; a noun's own field `state` is changed by saving it. Raises `NotFound`."""
        kind = kind_of(cls)
        with self.database.transaction() as connection:
            done = connection.execute(
                update(record).where(*_one(self.project, kind.kind, id)(record)).values(state=state)
            )
            if done.rowcount == 0:
                raise NotFound(kind.kind.replace("_", " "), id)
            count_writes(self.database, connection, self.project, [kind.kind])

    def state(self, cls: type[Any], id: str) -> str:
        """Raises `NotFound`."""
        kind = kind_of(cls)
        with self.database.reading() as connection:
            found = connection.execute(
                select(record.c.state).where(*_one(self.project, kind.kind, id)(record))
            ).scalar()
        if found is None:
            raise NotFound(kind.kind.replace("_", " "), id)
        return str(found)

    def delete(self, cls: type[Any], id: str) -> None:
        """Removes a record for good; its edges stay, so that what was made from it can still be found."""
        self.delete_row(kind_of(cls).kind, id, tombstone=False)

    def trim(self, cls: type[Any], *, keep: int, older_than: datetime) -> int:
        """Removes records that are older than a moment, and the oldest ones where there are more than `keep`; returns
        how many."""
        kind = kind_of(cls).kind
        mine = (record.c.project == self.project, record.c.kind == kind)
        newest = select(record.c.created_us).where(*mine).order_by(record.c.created_us.desc())
        with self.database.reading() as connection:
            first_too_many = connection.execute(newest.offset(keep).limit(1)).scalar()
            limit = max(_microseconds(older_than), (first_too_many or -1) + 1)
            gone = connection.execute(select(record.c.id).where(*mine, record.c.created_us < limit)).scalars().all()
        for id in gone:
            self.delete_row(kind, id, tombstone=False)
        return len(gone)

    def delete_row(self, kind: str, id: str, *, tombstone: bool) -> None:
        """Removes a record by the name of its kind. A tombstone answers later questions with `ContentErased`."""
        where = _one(self.project, kind, id)
        with self.database.transaction() as connection:
            for table in (record, record_part, record_link):
                connection.execute(delete(table).where(*where(table)))
            count_writes(self.database, connection, self.project, [kind])
            if tombstone:
                connection.execute(
                    self.database.insert(erased)
                    .values(project=self.project, kind=kind, id=id, erased_us=time.time_ns() // 1000)
                    .on_conflict_do_nothing()
                )

    def _open(self, connection: Connection, cls: type[Noun], kind: Kind, row: Row[Any]) -> Noun:
        noun = msgspec.json.decode(self.keys.open(connection, row.body, kind=kind.kind, id=row.id), type=cls)
        if not kind.parts:
            return noun
        rows = connection.execute(
            select(record_part.c.position, record_part.c.body)
            .where(*_one(self.project, kind.kind, row.id)(record_part))
            .order_by(record_part.c.position)
        ).all()
        if not rows:
            return noun
        member = _member_type(cls, kind.parts)
        members = list(getattr(noun, kind.parts))
        for part in rows:
            try:
                raw = self.keys.open(connection, part.body, kind=kind.kind, id=f"{row.id}#{part.position}")
            except ContentErased:
                continue
            # Positions count all members, so inserting in order puts each where it stood (erased ones close up).
            members.insert(min(part.position, len(members)), msgspec.json.decode(raw, type=member))
        changed: Noun = replace(noun, **{kind.parts: tuple(members)})  # type: ignore[type-var]
        return changed


def _split(noun: Any, kind: Kind) -> tuple[Any, list[tuple[int, Any]]]:
    """The noun without the members that are about a person of their own, and these with their positions."""
    if not kind.parts:
        return noun, []
    members = getattr(noun, kind.parts)
    own = [(position, part) for position, part in enumerate(members) if getattr(part, "subject", None)]
    if not own:
        return noun, []
    rest = tuple(part for part in members if not getattr(part, "subject", None))
    return replace(noun, **{kind.parts: rest}), own


def _member_type(cls: type[Any], field_name: str) -> Any:
    return get_args(get_type_hints(cls)[field_name])[0]


def _one(project: str, kind: str, id: str) -> Callable[[Any], tuple[Any, ...]]:
    def where(table: Any) -> tuple[Any, ...]:
        return (table.c.project == project, table.c.kind == kind, table.c.id == id)

    return where


def _created_us(noun: Any, kind: Kind) -> int:
    created = getattr(noun, kind.created, None)
    return _microseconds(created) if isinstance(created, datetime) else time.time_ns() // 1000


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
