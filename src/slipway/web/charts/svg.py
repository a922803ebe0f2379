"""SVG elements as text: attributes are escaped, numbers are short, `_` in a name stands for `-`."""

from html import escape

Attribute = str | float | int | None


def element(name: str, *inside: str, **attributes: Attribute) -> str:
    """An element around already written SVG; an attribute that is None is left out.

    >>> element("line", x2="100%", stroke_width=1.50)
    '<line x2="100%" stroke-width="1.5"/>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(value) if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>" if inside else f"<{name}{written}/>"


def text(words: str, size: int = 11, colour: str = "var(--text-3)", **attributes: Attribute) -> str:
    """A line of text at its true size in pixels."""
    return element("text", escape(words, quote=False), font_size=size, fill=colour, **attributes)


def line(colour: str, **attributes: Attribute) -> str:
    return element("line", stroke=colour, **attributes)


def number(value: float) -> str:
    """A coordinate: two decimals at most, no trailing zeros, no negative zero."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written in ("-0", "") else written


def percent(value: float) -> str:
    return f"{number(value)}%"
