"""Adapters to other processes."""
