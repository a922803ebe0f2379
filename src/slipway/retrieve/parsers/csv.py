"""Reads tables of comma or tab separated values as they stand."""

import csv
import io
from dataclasses import dataclass
from typing import ClassVar

from slipway.retrieve.parsers.base import Parsed, Unparsable, decode_text, parsers


@parsers.register("csv")
@dataclass(frozen=True)
class Csv:
    """Reads comma or tab separated values as they stand; a row is a line, so offsets are those of the file."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    confined: ClassVar[bool] = False

    def parse(self, content: bytes) -> Parsed:
        text = decode_text(content)
        try:
            columns = next(csv.reader(io.StringIO(text)), [])
        except csv.Error as wrong:
            raise Unparsable(f"its first row is no table row ({wrong})") from wrong
        return Parsed(text=text, format="csv", metadata={"columns": ", ".join(columns)})
