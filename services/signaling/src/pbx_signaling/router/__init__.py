"""From octets to whom a message belongs to, and back to octets."""
