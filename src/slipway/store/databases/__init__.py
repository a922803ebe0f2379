"""Databases that can carry the store."""
