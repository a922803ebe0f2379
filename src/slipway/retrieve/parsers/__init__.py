"""Backends that read the clean text of one kind of file."""
