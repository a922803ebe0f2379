"""A user's own prices and licences in one TOML file: they go before everything that is published."""

import tomllib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from slipway.domain.architecture import Licence
from slipway.domain.errors import FileBroken

Dollars = Annotated[float, Meta(ge=0)]


class OwnModelPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens of a commercial model; `batch` is the price of its batch interface over the normal."""

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    batch: Annotated[float, Meta(gt=0, le=1)] | None = None
    as_of: date
    source: str = "own price"


class OwnHardwarePrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars for an hour of one accelerator by commitment, and for buying one."""

    on_demand: Dollars | None = None
    one_year: Dollars | None = None
    three_years: Dollars | None = None
    spot: Dollars | None = None
    purchase: Dollars | None = None
    regions: dict[str, Dollars] = msgspec.field(default_factory=dict)
    """An hour on demand in a region, by its name."""
    as_of: date
    source: str = "own price"


class OwnLicence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What your lawyers say a licence allows; named by the model it is for."""

    name: str
    commercial: bool
    redistribute: bool = False
    attribution: str = ""
    user_cap: int | None = None
    train_on_output: Literal["allowed", "forbidden", "under its name"] = "allowed"
    restrictions: str = ""
    text_sha256: str = ""

    def licence(self) -> Licence:
        return Licence(id="own", checked="own", **msgspec.structs.asdict(self))


class PriceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    models: dict[str, OwnModelPrice] = msgspec.field(default_factory=dict)
    second: dict[str, OwnModelPrice] = msgspec.field(default_factory=dict)
    hardware: dict[str, OwnHardwarePrice] = msgspec.field(default_factory=dict)
    licences: dict[str, OwnLicence] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPrices:
    """Own prices by `provider/model`, by accelerator, own licences by model; and the file they come from.

    `second` is what another source says about published prices: set beside them, never taken.
    """

    models: dict[str, OwnModelPrice] = field(default_factory=dict)
    second: dict[str, OwnModelPrice] = field(default_factory=dict)
    hardware: dict[str, OwnHardwarePrice] = field(default_factory=dict)
    licences: dict[str, Licence] = field(default_factory=dict)
    file: str = ""


NOTHING_OWN = OwnPrices()


def read_own_prices(path: Path) -> OwnPrices:
    """The user's file; nothing when it is not there. Raises `FileBroken` with the place in the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING_OWN
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    try:
        table: dict[str, Any] = tomllib.loads(text)
        read = msgspec.convert(table, PriceFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    return OwnPrices(
        models=read.models,
        second=read.second,
        hardware=read.hardware,
        licences={name: one.licence() for name, one in read.licences.items()},
        file=path.name,
    )
