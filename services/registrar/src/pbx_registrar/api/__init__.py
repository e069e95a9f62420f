"""The gRPC face of the registrar. Generated types stay here, in outbox and in storage."""
