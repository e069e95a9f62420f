"""The administrative face of signaling: live calls over gRPC. No logic."""
