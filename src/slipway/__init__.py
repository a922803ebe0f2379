"""Slipway takes an application of a large language model through its whole life."""

__version__ = "0.1.0"
