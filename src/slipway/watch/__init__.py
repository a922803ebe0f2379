"""After launch: quality, drift, resources and alerts, from the traces."""
