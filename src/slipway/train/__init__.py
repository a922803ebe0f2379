"""Does training pay? Data with a report, methods with their price, runs that survive a kill."""
