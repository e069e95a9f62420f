"""The other instances of signaling."""
