"""The HTTP API. No logic."""
