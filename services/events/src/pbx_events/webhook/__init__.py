"""Webhooks: who gets what, signed, again and again until it arrived."""
