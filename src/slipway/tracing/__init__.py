"""Traces on their way: recorded while a request runs, journalled, priced, taken into the store, exported."""
