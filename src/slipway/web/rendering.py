"""Templates to HTML: whole pages, or only the block that a fragment request asked for."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from slipway.web import drawings, number
from slipway.web.static_files import static_url

HERE = Path(__file__).parent


class Components:
    """The macros of `components/`, each by the name of its file: `ui.tag("live", "pass")`."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def __getattr__(self, name: str) -> Callable[..., str]:
        macro: Callable[..., str] = getattr(self._environment.get_template(f"components/{name}.html").module, name)
        setattr(self, name, macro)
        return macro


@cache
def templates() -> Environment:
    """The one environment: autoescape on, an undefined name is an error."""
    environment = Environment(
        loader=ChoiceLoader(
            [
                FileSystemLoader(HERE / "templates"),
                PrefixLoader({"components": FileSystemLoader(HERE / "components")}),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(ui=Components(environment), static=static_url, number=number, drawings=drawings)
    environment.filters.update(
        significant=number.significant,
        count=number.count,
        seconds=number.seconds,
        share=number.share,
        money=number.money,
        micros=number.micros,
        moment=number.moment,
        day=number.day,
        quantity=number.quantity,
        plural=number.plural,
        coded=coded,
    )
    return environment


def coded(words: str) -> Markup:
    """Plain words in which `names` between backticks are set as code."""
    parts = words.split("`")
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if place % 2 else escape(part) for place, part in enumerate(parts))


def render_page(name: str, data: Mapping[str, Any]) -> str:
    """The whole page of a template."""
    return templates().get_template(name).render(data)


def render_block(name: str, block: str, data: Mapping[str, Any]) -> str | None:
    """One block of a template, or None when it has no block of that name."""
    template: Template = templates().get_template(name)
    if block not in template.blocks:
        return None
    return "".join(template.blocks[block](template.new_context(dict(data))))


def component(name: str, *arguments: object, **named: object) -> Markup:
    """A component outside a template, for a table's cell or an answer of its own."""
    made: Callable[..., str] = getattr(templates().globals["ui"], name)
    return Markup(made(*arguments, **named))
