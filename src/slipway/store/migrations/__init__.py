"""How the tables came to be: numbered steps, each run once."""
