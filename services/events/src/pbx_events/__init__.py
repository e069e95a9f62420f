"""Events: the outbox reader, CDRs, webhooks and the HTTP API."""
