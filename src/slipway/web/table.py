"""A table as pages show it: columns that can be chosen and sorted, rows that open, paging by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlencode

from markupsafe import Markup

from slipway.web.rendering import coded, component


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`number` columns are right-aligned, `mono` ones in the code font, `clip` ones cut with an ellipsis."""

    key: str
    label: str
    number: bool = False
    mono: bool = False
    clip: bool = False
    one_line: bool = True
    shown: bool = True
    sort_href: str = ""
    sorted: Literal["", "ascending", "descending"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cells by the key of their column; `href` opens the row. `order` holds what the row is sorted by."""

    cells: Mapping[str, Any]
    href: str = ""
    selected: bool = False
    order: Mapping[str, Any] = field(default_factory=dict)

    def cell(self, column: Column) -> Any:
        """The cell's text, escaped by the template unless it is markup already."""
        value = self.cells.get(column.key, "")
        if column.mono and not isinstance(value, Markup):
            value = Markup('<span class="mono">{}</span>').format(value)
        if column.clip:
            title = "" if isinstance(value, Markup) else value
            return Markup('<span class="clip" title="{}">{}</span>').format(title, value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`more_href` leads to the next page of older rows, `first_href` back to the newest."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=tuple)
    more_href: str = ""
    first_href: str = ""
    compact: bool = False

    @property
    def shown(self) -> list[Column]:
        return [column for column in self.columns if column.shown]


def choose_columns(columns: Sequence[Column], wanted: Sequence[str]) -> list[Column]:
    """The same columns with only the wanted ones shown; nothing wanted leaves the choice as it is."""
    if not wanted:
        return list(columns)
    return [replace(column, shown=column.key in wanted) for column in columns]


def sort_rows(
    columns: Sequence[Column], rows: Sequence[Row], *, path: str, query: Mapping[str, str], default: str
) -> tuple[list[Column], list[Row]]:
    """Rows in the order that `?sort=key` or `?sort=-key` asks for, and headers that link to the other orders.

    A column can be sorted when the rows have its key in `order`. Only for tables that are whole on the page; long lists
    are ordered by their store.
    """
    keys = set(rows[0].order) if rows else set()
    asked = query.get("sort", default)
    name, down = asked.removeprefix("-"), asked.startswith("-")
    if name not in keys:
        name, down = default.removeprefix("-"), default.startswith("-")
    headers = []
    for column in columns:
        if column.key in keys:
            current = column.key == name
            address = f"{path}?{urlencode({**query, 'sort': column.key if current and down else f'-{column.key}'})}"
            order: Literal["", "ascending", "descending"] = ("descending" if down else "ascending") if current else ""
            column = replace(column, sort_href=address, sorted=order)
        headers.append(column)
    return headers, sorted(rows, key=lambda row: row.order[name], reverse=down) if keys else list(rows)


def tag(word: str, tone: str = "", title: str = "") -> Markup:
    """The tag component, for a cell."""
    return component("tag", word, tone, title)


def described(name: str, words: str) -> Markup:
    """A name with a quiet line below it, for a cell."""
    return Markup('{}<div class="quiet small">{}</div>').format(name, coded(words))
