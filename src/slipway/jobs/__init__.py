"""Work beside the request: queued in the transaction that causes it, claimed under a lease, resumed when it dies."""
