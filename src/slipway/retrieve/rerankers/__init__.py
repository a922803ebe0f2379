"""Rerankers: backends that score the passages of a search again."""
