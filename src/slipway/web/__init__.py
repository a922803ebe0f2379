"""The pages: a calm, dense door to the same verbs that command line and Python call."""
