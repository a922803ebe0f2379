"""Suites: what is asked of a release, how each answer scores, and what follows from all of them."""
