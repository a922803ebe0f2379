"""Plain tools over text: sentences, words, tokens, overlap, Markdown blocks; no input or output."""
