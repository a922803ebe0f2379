"""Rails: backends that look at one text and say what they found."""
