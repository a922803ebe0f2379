"""The formats of emitted files, and what is allowed in them."""
