"""Neural networks that run on this processor: their weights and their arithmetic, without torch."""
