"""Prompt: a library of versioned prompts, safe templates, a linter, trials and word diffs."""
