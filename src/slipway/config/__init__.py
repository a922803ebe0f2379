"""slipway.toml: typed settings, secrets by reference, clear errors for wrong keys."""

from slipway.config.reader import load_settings
from slipway.config.secrets import Secret
from slipway.config.settings import Settings

__all__ = ["Secret", "Settings", "load_settings"]
