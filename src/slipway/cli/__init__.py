"""The command line: one file a stage, each command calls one verb and shows the result."""
