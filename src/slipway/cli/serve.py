"""`slipway serve`: the gateway and the pages of an application."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder

if TYPE_CHECKING:
    from slipway.server import Serving


def mount(app: typer.Typer) -> None:
    app.command(name="serve", help="Serve the endpoint and the pages until stopped.")(serve)


def serve(
    folder: Folder = HERE,
    host: Annotated[str | None, typer.Option(help="Address to bind; off loopback, keys are asked for.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    pages: Annotated[bool, typer.Option("--pages/--no-pages", help="Whether the pages are served too.")] = True,
    plain_http: Annotated[
        bool | None, typer.Option("--plain-http/--no-plain-http", help="Allow HTTP without TLS off loopback.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the endpoint and the pages until stopped."""
    import logging

    from slipway.server import serve as serve_application

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    serve_application(
        folder,
        host=host,
        port=port,
        workers=workers,
        open_pages=pages,
        plain_http=plain_http,
        on_ready=lambda serving: _tell(serving, folder, as_json=as_json),
    )


def _tell(serving: "Serving", folder: Path, *, as_json: bool) -> None:
    import json
    import os

    link = _sign_in_link(serving, folder) if serving.pages and serving.keys_required else None
    if as_json:
        told = {
            "application": serving.application,
            "url": serving.url,
            "page": f"{serving.url}/" if serving.pages else None,
            "endpoint": serving.endpoint,
            "workers": serving.workers,
            "keys_required": serving.keys_required,
            "sign_in": link,
            "pid": os.getpid(),
        }
        print(json.dumps(told), flush=True)
        return
    if serving.pages:
        print(f"Page:     {serving.url}/")
    print(f"Endpoint: {serving.endpoint}  (model: {serving.application})")
    if link:
        print(f"Sign in:  {link}  (works once, for ten minutes)")
    if serving.keys_required:
        print("Keys are asked for. Make one: slipway keys create NAME")
    print("Stop with Ctrl-C.", flush=True)


def _sign_in_link(serving: "Serving", folder: Path) -> str:
    """An address that signs whoever started the server in to the pages."""
    from slipway.web.session import Sessions

    return Sessions(folder.resolve() / ".slipway").make_link(serving.url)
