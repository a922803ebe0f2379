"""What works off the queue."""
