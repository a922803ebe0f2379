"""How far each segment of the journal was read."""

from sqlalchemy import delete, func, select

from slipway.store.databases.base import Database
from slipway.store.schema import journal_position


class Positions:
    """Positions of one project's journal; `move` belongs into the transaction that stores what was read."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def of(self, segment: str) -> int:
        """0 for a segment that nobody has read."""
        sql = "select position from journal_position where project = ? and segment = ?"
        with self.database.reading() as connection:
            return self.database.raw(connection, sql, (self.project, segment)).scalar() or 0

    def move(self, segment: str, position: int, *, damaged: int = 0) -> None:
        """Notes that everything before `position` is stored; `damaged` records are added to the count."""
        sql = (
            "insert into journal_position (project, segment, position, damaged) values (?, ?, ?, ?) on conflict "
            "(project, segment) do update set position = excluded.position, "
            "damaged = journal_position.damaged + excluded.damaged"
        )
        with self.database.joining() as connection:
            self.database.raw(connection, sql, (self.project, segment, position, damaged))

    def damaged(self) -> int:
        """Records that could not be read, over all segments ever."""
        statement = select(func.sum(journal_position.c.damaged)).where(journal_position.c.project == self.project)
        with self.database.reading() as connection:
            return int(connection.execute(statement).scalar() or 0)

    def forget(self, segment: str) -> None:
        """Removes the position of a segment that is gone; damaged records stay counted, under an empty name."""
        where = (journal_position.c.project == self.project, journal_position.c.segment == segment)
        with self.database.transaction() as connection:
            damaged = connection.execute(select(journal_position.c.damaged).where(*where)).scalar() or 0
            connection.execute(delete(journal_position).where(*where))
            if damaged and segment:
                self.move("", 0, damaged=damaged)
