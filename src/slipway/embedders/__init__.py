"""Embedders: backends that turn texts into vectors."""
