"""Ctrl K: pages, releases, prompts, datasets, findings, traces by id, commands."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from slipway.access.roles import allows
from slipway.domain.dataset import Dataset
from slipway.domain.errors import ContentErased, NotFound
from slipway.domain.feedback import Finding
from slipway.domain.prompt import Prompt
from slipway.release.parts import list_releases
from slipway.stages import FACTS, STAGES
from slipway.web.frame import GOVERN, Crumb
from slipway.web.page import View, Visit, page

MOST = 12
TRACE = re.compile(r"[0-9a-f]{32}")
COMMANDS = {
    "slipway up": "build what is missing, evaluate, gate and serve",
    "slipway doctor": "check the installation and the application",
    "slipway release ask": "put one question to a release",
    "slipway release gate": "check whether a release may go out",
    "slipway evaluate run": "measure a release",
    "slipway learn triage": "look for findings",
    "slipway watch traces": "list traces",
    "slipway keys create": "make an API key",
}


class Found(NamedTuple):
    """A line of the results; a command has no address and is copied instead."""

    kind: str
    label: str
    detail: str
    href: str


def show(visit: Visit) -> View:
    wanted = visit.ask("q").strip()
    found = list(_find(visit, wanted.lower()))[:MOST]
    if wanted:
        found.append(
            Found("traces", f"Traces with “{wanted}”", "full-text search", f"/traces?q={quote(wanted)}&since=")
        )
    data = {"wanted": wanted, "found": found}
    return View("search.html", "Search", data, (Crumb("Search"),))


def _find(visit: Visit, wanted: str) -> Iterator[Found]:
    records = visit.workspace.store.records
    if TRACE.fullmatch(wanted):
        try:
            row = visit.workspace.store.traces.summary(wanted)
            yield Found("trace", wanted[:16], row.preview if _may_read(visit) else "", f"/traces/{wanted}")
        except (NotFound, ContentErased):
            pass
    for word, does in (("overview", "what is open"), *((stage, FACTS[stage].does) for stage in STAGES)):
        if wanted in word:
            yield Found("page", word.capitalize(), does, "/" if word == "overview" else f"/{word}")
    for word in ("traces", "jobs", *GOVERN):
        if wanted in word:
            yield Found("page", word.capitalize(), "", f"/{word}")
    for release in list_releases(visit.workspace)[:50]:
        if wanted in release.label or (len(wanted) >= 6 and release.id.startswith(wanted)):
            yield Found("release", release.label, release.note, f"/release/{release.number}")
    for name in records.names(Prompt):
        if wanted in name:
            yield Found("prompt", name, "", f"/prompt/{name}")
    if not wanted:
        return
    for name in records.names(Dataset):
        if wanted in name:
            yield Found("dataset", name, "", f"/evaluate/dataset/{name}")
    if _may_read(visit):
        for finding in records.list(Finding, limit=200):
            if wanted in finding.title.lower() or finding.id.startswith(wanted):
                yield Found("finding", finding.title, finding.state, f"/learn/{finding.id}")
    for command, does in COMMANDS.items():
        if wanted in command or wanted in does:
            yield Found("command", command, does, "")


def _may_read(visit: Visit) -> bool:
    scope = visit.request.scope
    return "slipway.person" not in scope or allows(scope["slipway.role"], "see_content")


ROUTES = [page("/search", show)]
