"""Typed headers, one per file, read on demand."""
