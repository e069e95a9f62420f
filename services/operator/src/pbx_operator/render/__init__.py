"""From specs to manifests: pure functions, one kind per file."""
