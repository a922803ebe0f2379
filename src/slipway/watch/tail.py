"""Traces as they arrive, one by one."""

import time
from collections.abc import Callable, Iterator

from slipway.domain.trace import TraceSummary
from slipway.workspace import Workspace

EVERY_S = 1.0
MOST_AT_ONCE = 200
REMEMBERED = 5000


class Tail:
    """What has arrived since the last look. Made at the moment from which on traces count as new.

    Raises `QueryInvalid`.
    """

    def __init__(self, workspace: Workspace, *, query: str = "", text: str = "") -> None:
        self.workspace, self.query, self.text = workspace, query, text
        self._seen = dict.fromkeys(row.id for row in self._newest())

    def look(self) -> list[TraceSummary]:
        """New traces that meet the filter, oldest first; at most the newest two hundred of them."""
        new = [row for row in self._newest() if row.id not in self._seen]
        self._seen.update(dict.fromkeys(row.id for row in new))
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return new[::-1]

    def _newest(self) -> list[TraceSummary]:
        page = self.workspace.store.traces.list(query=self.query, text=self.text, limit=MOST_AT_ONCE)
        return list(page.rows)


def follow(
    tail: Tail, *, refresh: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> Iterator[TraceSummary]:
    """Every new trace, for as long as one listens. `refresh` is called before each look."""
    while True:
        refresh()
        yield from tail.look()
        sleep(EVERY_S)
