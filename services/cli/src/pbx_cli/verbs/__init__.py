"""Verbs that speak to a running system: HTTP for what the API serves, gRPC for accounts and relays."""
