"""The registrar over gRPC."""
