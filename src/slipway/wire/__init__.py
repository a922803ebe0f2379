"""Foreign shapes and our nouns, translated here and nowhere else."""
