"""Session descriptions (RFC 8866), kept byte-faithfully where they are not ours to change."""
