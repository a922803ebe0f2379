"""What is kept about a person, how it is handed out, and how it is erased."""
