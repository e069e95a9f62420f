"""Dialogs as values (RFC 3261 section 12)."""
