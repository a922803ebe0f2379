"""What stands around every page: menu, where one is, what is live, the theme."""

import time
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from starlette.requests import Request

from slipway.domain.feedback import Alert, Finding
from slipway.domain.release import Channel, Release
from slipway.release.parts import list_releases
from slipway.review.queue import list_items
from slipway.stages import FACTS, STAGES
from slipway.store.store import Store
from slipway.workspace import Workspace

THEMES = ("system", "light", "dark")
GROUPS = (("build", "Build"), ("prove", "Prove"), ("run", "Run"))
GOVERN = ("privacy", "audit", "settings")
COUNTS_FRESH_S = 2.0


class Crumb(NamedTuple):
    """A step of the way to a page; the last one has no address."""

    label: str
    href: str = ""


class Entry(NamedTuple):
    """A word of the menu; `count` stands there only when someone must act."""

    label: str
    href: str
    current: bool
    waiting: int = 0


class Live(NamedTuple):
    """The release that answers on the application's own channel."""

    label: str
    href: str
    share: float


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that `layout.html` asks for."""

    title: str
    application: str
    crumbs: tuple[Crumb, ...]
    overview: Entry
    groups: tuple[tuple[str, tuple[Entry, ...]], ...]
    live: Live | None
    theme: str
    person: str
    path: str


class _State(NamedTuple):
    read_at: float
    counts: dict[str, int]
    live: Live | None


_states: WeakKeyDictionary[object, _State] = WeakKeyDictionary()


def read_frame(workspace: Workspace, request: Request, *, title: str, crumbs: tuple[Crumb, ...]) -> Frame:
    """The frame of a page; counts and the live release are at most two seconds old."""
    path = request.url.path
    state = _read_state(workspace)
    words = [(group, [stage for stage in STAGES if FACTS[stage].group == key]) for key, group in GROUPS]
    groups = []
    for label, stages in words:
        entries = [_entry(stage, path, state.counts.get(stage, 0)) for stage in stages]
        if label == "Run":
            # Traces are what watching looks at: they stand right below it.
            at = stages.index("watch") + 1
            entries.insert(at, _entry("traces", path, 0))
        groups.append((label, tuple(entries)))
    groups.append(("Govern", tuple(_entry(word, path, 0) for word in GOVERN)))
    theme = request.cookies.get("slip_theme", "system")
    return Frame(
        title=title,
        application=workspace.application,
        crumbs=crumbs,
        overview=Entry("Overview", "/", path == "/"),
        groups=tuple(groups),
        live=state.live,
        theme=theme if theme in THEMES else "system",
        person=str(request.scope.get("slipway.person") or ""),
        path=path,
    )


def _entry(word: str, path: str, count: int) -> Entry:
    return Entry(word.capitalize(), f"/{word}", path == f"/{word}" or path.startswith(f"/{word}/"), count)


def _read_state(workspace: Workspace) -> _State:
    store: Store = workspace.store
    known = _states.get(store.records)
    if known is not None and time.monotonic() - known.read_at < COUNTS_FRESH_S:
        return known
    state = _State(time.monotonic(), _counts(workspace), read_live(workspace))
    _states[store.records] = state
    return state


def _counts(workspace: Workspace) -> dict[str, int]:
    """What waits for someone, by the stage whose page answers it."""
    records = workspace.store.records
    return {
        "learn": records.count(Finding, state="open"),
        "watch": records.count(Alert, state="open"),
        "review": count_waiting(workspace),
    }


def count_waiting(workspace: Workspace) -> int:
    """Answers of the newest release that nobody has rated yet."""
    newest = list_releases(workspace)[:1]
    return len(list_items(workspace, newest[0])) if newest else 0


def read_live(workspace: Workspace) -> Live | None:
    """The release with the largest share of the application's own channel."""
    channel = workspace.store.records.find(Channel, workspace.application)
    if channel is None or not channel.shares:
        return None
    largest = max(channel.shares, key=lambda share: share.weight)
    release = workspace.store.records.find(Release, largest.release)
    if release is None:
        return None
    total = sum(share.weight for share in channel.shares)
    return Live(release.label, f"/release/{release.number}", largest.weight / total)
