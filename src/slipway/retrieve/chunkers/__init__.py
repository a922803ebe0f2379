"""Backends that cut a document into chunks."""
