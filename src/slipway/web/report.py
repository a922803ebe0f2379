"""A report as one file: the page's own components with styles inside, no script, ready for A4."""

import re
from functools import cache
from typing import Any

from starlette.responses import HTMLResponse, Response

from slipway.web.rendering import templates
from slipway.web.static_files import FOLDER

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_report(template: str, **data: Any) -> str:
    """HTML of a template of `templates/reports/` that needs nothing else: no other file, no network, no script."""
    html = templates().get_template(template).render({"styles": styles(), "policy": POLICY, **data})
    # Buttons and copy icons are for the live page; a printed report has neither script nor sprite.
    return re.sub(r"<button\b.*?</button>", "", html, flags=re.DOTALL)


def report_response(template: str, **data: Any) -> Response:
    """A report as an answer: the one page whose styles stand inside it, so it may hold nothing else."""
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
    return HTMLResponse(render_report(template, **data), headers=headers)


@cache
def styles() -> str:
    """tokens.css and app.css without fonts: a report uses what the reader's machine has."""
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("tokens.css", "app.css"))
    return re.sub(r"@font-face \{.*?\}\n?", "", text, flags=re.DOTALL)
