"""The hall: cut a release from its parts, answer with it, prove it, let it out."""
