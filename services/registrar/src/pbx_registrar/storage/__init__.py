"""Where bindings are kept: one Protocol, Redis, and memory for tests."""
