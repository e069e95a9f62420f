"""Digest authentication (RFC 8760) and stateless nonces."""
