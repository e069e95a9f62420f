"""The registrar: accounts, authentication and bindings (RFC 3261 section 10)."""
