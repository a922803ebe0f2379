"""Engines: backends that complete and stream."""
