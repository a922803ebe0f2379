"""One number with its reason, one file each."""
