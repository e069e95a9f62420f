"""gRPC and Redis as the domain sees them: contracts in domain words, generated types kept inside."""
