"""Rules of the prompt linter: one file each."""
