"""`slipway config`: check slipway.toml, show what it means, print its schema."""

from typing import Any

import typer

from slipway.cli.output import HERE, AsJson, Folder, show

app = typer.Typer(no_args_is_help=True, help="Check slipway.toml and print its schema.")


@app.command()
def check(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Check slipway.toml: keys, types, bounds, backends and secrets."""
    from slipway.config.reader import load_settings
    from slipway.lifecycle.doctor import check_backends

    settings = load_settings(folder)
    check_backends(settings, folder=folder.resolve())
    show({"ok": True}, as_json=as_json, text=f"{folder / 'slipway.toml'} is right.")


@app.command("show")
def show_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show every setting with its value, defaults filled in."""
    import msgspec

    from slipway.config.reader import load_settings

    values: dict[str, Any] = msgspec.to_builtins(load_settings(folder))
    lines = [
        f"[{name}]\n" + "\n".join(f"{key} = {value!r}" for key, value in keys.items())
        for name, keys in values.items()
        if isinstance(keys, dict)
    ]
    show(values, as_json=as_json, text="\n\n".join(lines))


@app.command()
def schema() -> None:
    """Print the JSON Schema of slipway.toml."""
    from slipway.config.schema import json_schema

    show(json_schema(), as_json=True)
