"""The rows of a table of separated values, each with its place in the text."""

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

DELIMITERS = ",;\t|"


class CsvRow(NamedTuple):
    """A row below the first: where it stands, and its values by the name of the column in lower case."""

    start: int
    end: int
    values: dict[str, tuple[str, ...]]


def csv_rows(name: str, text: str) -> list[CsvRow]:
    """Rows of a file of this name, by the columns that its first row names; a table that breaks off ends there."""
    head = text.partition("\n")[0]
    delimiter = "\t" if name.lower().endswith(".tsv") else max(DELIMITERS, key=head.count)
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in io.StringIO(text):
            end += len(line)
            yield line

    rows: list[CsvRow] = []
    columns: list[str] | None = None
    start = 0
    try:
        for cells in csv.reader(lines(), delimiter=delimiter):
            if columns is None:
                columns = [cell.strip().lower() for cell in cells]
            elif cells:
                named = zip(columns, cells, strict=False)
                rows.append(CsvRow(start, end, {column: (cell.strip(),) for column, cell in named if column}))
            start = end
    except csv.Error:
        return rows
    return rows
