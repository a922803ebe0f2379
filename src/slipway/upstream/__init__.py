"""The HTTP client that engines, webhooks and the gateway call other machines with."""
