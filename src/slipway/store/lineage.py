"""Edges from copies of content to what they were made from: erasing a person follows them."""

import time
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import or_, select, tuple_

from slipway.store.databases.base import Database
from slipway.store.schema import derived

Thing = tuple[str, str]
"""(kind, id), for example ("trace", "4bf9…") or ("dataset", "support@3")."""


class Edge(NamedTuple):
    """`child` was made from `parent` by `transform`."""

    child: Thing
    parent: Thing
    transform: str


class Lineage:
    """The edges of one project."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def add(self, *, child: Thing, parent: Thing, transform: str = "") -> None:
        """Notes one edge; noting it twice changes nothing."""
        self.add_all([Edge(child, parent, transform)])

    def add_all(self, edges: Iterable[Edge]) -> None:
        rows = [
            {
                "project": self.project,
                "child_kind": edge.child[0],
                "child_id": edge.child[1],
                "parent_kind": edge.parent[0],
                "parent_id": edge.parent[1],
                "transform": edge.transform,
                "created_us": time.time_ns() // 1000,
            }
            for edge in edges
        ]
        if not rows:
            return
        with self.database.transaction() as connection:
            connection.execute(self.database.insert(derived).on_conflict_do_nothing(), rows)

    def descendants(self, roots: Iterable[Thing]) -> list[Edge]:
        """Every edge that leads from the roots to something made from them, nearest first; circles end."""
        return self._walk(roots, down=True)

    def ancestors(self, things: Iterable[Thing]) -> list[Edge]:
        """Every edge that leads from things back to what they were made from, nearest first."""
        return self._walk(things, down=False)

    def _walk(self, start: Iterable[Thing], *, down: bool) -> list[Edge]:
        seen = set(start)
        frontier = list(seen)
        found: list[Edge] = []
        here = (derived.c.parent_kind, derived.c.parent_id) if down else (derived.c.child_kind, derived.c.child_id)
        with self.database.reading() as connection:
            while frontier:
                edges: list[Edge] = []
                # A few hundred at a time: every database limits the number of parameters.
                for at in range(0, len(frontier), 400):
                    some = frontier[at : at + 400]
                    rows = connection.execute(
                        select(derived).where(derived.c.project == self.project, tuple_(*here).in_(some))
                    )
                    edges += [
                        Edge((row.child_kind, row.child_id), (row.parent_kind, row.parent_id), row.transform)
                        for row in rows
                    ]
                found += edges
                frontier = []
                for edge in edges:
                    thing = edge.child if down else edge.parent
                    if thing not in seen:
                        seen.add(thing)
                        frontier.append(thing)
        return found

    def forget(self, thing: Thing) -> None:
        """Removes every edge of a thing that is gone."""
        kind, id = thing
        with self.database.transaction() as connection:
            connection.execute(
                derived.delete().where(
                    derived.c.project == self.project,
                    or_(
                        (derived.c.child_kind == kind) & (derived.c.child_id == id),
                        (derived.c.parent_kind == kind) & (derived.c.parent_id == id),
                    ),
                )
            )
