"""The questions that people asked in a stretch of time."""

from datetime import datetime

from slipway.domain.trace import OWN_CHANNELS
from slipway.workspace import Workspace


def questions_between(workspace: Workspace, *, since: datetime, until: datetime, limit: int = 2000) -> list[str]:
    """Questions of the traces that began in [since, until), newest first, at most `limit`."""
    questions: list[str] = []
    after: str | None = None
    while len(questions) < limit:
        page = workspace.store.traces.list(since=since, until=until, limit=min(200, limit), after=after)
        for row in page.rows:
            if row.channel in OWN_CHANNELS:
                continue
            question = workspace.store.traces.get(row.id).root.content.get("question")
            if isinstance(question, str) and question:
                questions.append(question)
        after = page.next
        if after is None:
            break
    return questions[:limit]
