"""Every colour of tokens.css keeps its contrast, and the series stay apart for every kind of colour vision."""

import re
from itertools import combinations

import pytest

from slipway.web.charts.chart import TOKENS

Colour = tuple[float, float, float]
PAIR = re.compile(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);")
PALETTE = {
    name: {"light": light, "dark": dark} for name, light, dark in PAIR.findall(TOKENS.read_text(encoding="utf-8"))
}
THEMES = ("light", "dark")
INKS = ("text", "text-2", "text-3", "accent", "pass", "warn", "fail")

# Full-strength matrices of Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of
# color vision deficiency", applied to linear RGB.
DEFICIENCIES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}  # fmt: skip
SMALLEST_DISTANCE = {"light": 0.13, "dark": 0.08}


def linear(name: str, theme: str) -> Colour:
    text = PALETTE[name][theme]
    channels = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return red, green, blue


def luminance(colour: Colour) -> float:
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def contrast(one: str, other: str, theme: str) -> float:
    low, high = sorted((luminance(linear(one, theme)), luminance(linear(other, theme))))
    return (high + 0.05) / (low + 0.05)


def oklab(colour: Colour) -> Colour:
    red, green, blue = (max(0.0, channel) for channel in colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def seen(colour: Colour, deficiency: str) -> Colour:
    red, green, blue = (
        sum(weight * channel for weight, channel in zip(row, colour, strict=True)) for row in DEFICIENCIES[deficiency]
    )
    return red, green, blue


def test_the_palette_is_whole() -> None:
    assert {*INKS, "bg", "surface", "sunken", "border", "border-control", "accent-ink", "accent-soft", "heat"} <= set(
        PALETTE
    )
    assert {f"series-{number}" for number in range(1, 7)} <= set(PALETTE)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["bg", "surface", "sunken"])
@pytest.mark.parametrize("ink", INKS)
def test_text_is_readable_on_every_ground(ink: str, ground: str, theme: str) -> None:
    assert contrast(ink, ground, theme) >= 4.5


ON_COLOUR = [
    pytest.param("accent-ink", "accent", id="words of the primary button"),
    pytest.param("accent", "accent-soft", id="selected entry of the menu"),
    pytest.param("text", "accent-soft", id="marked passage"),
    pytest.param("pass", "pass-soft", id="passed tag"),
    pytest.param("warn", "warn-soft", id="attention tag"),
    pytest.param("fail", "fail-soft", id="failed tag"),
    pytest.param("text", "heat", id="number in the strongest cell of a heat map"),
    pytest.param("text", "heat-fail", id="number in the worst cell"),
    pytest.param("text", "heat-pass", id="number in the best cell"),
    pytest.param("text-2", "fail-soft", id="answer in a failed cell of the matrix"),
    pytest.param("text-3", "fail-soft", id="figures in a failed cell of the matrix"),
]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("ink", "ground"), ON_COLOUR)
def test_words_stand_on_colour(ink: str, ground: str, theme: str) -> None:
    assert contrast(ink, ground, theme) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("line", ["border-control", *(f"series-{number}" for number in range(1, 7))])
def test_lines_and_controls_are_seen_on_the_surface(line: str, theme: str) -> None:
    assert contrast(line, "surface", theme) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_series_stay_apart(deficiency: str, theme: str) -> None:
    series = {number: oklab(seen(linear(f"series-{number}", theme), deficiency)) for number in range(1, 6)}
    distances = {
        pair: sum((a - b) ** 2 for a, b in zip(series[pair[0]], series[pair[1]], strict=True)) ** 0.5
        for pair in combinations(series, 2)
    }
    nearest = min(distances, key=lambda pair: distances[pair])
    assert round(distances[nearest], 2) >= SMALLEST_DISTANCE[theme], nearest
