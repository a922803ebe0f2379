"""Places an application can be deployed to, one file each."""
