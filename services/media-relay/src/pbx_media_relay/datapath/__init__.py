"""What moves the packets: one Protocol (base) and its implementations, all held to one conformance suite."""
