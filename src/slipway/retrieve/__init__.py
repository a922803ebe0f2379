"""Indexes documents, searches them with exact citations, and finds what they do not cover."""
