"""Sockets to bytes and back, each message with the flow that it came on. Nothing of SIP is known here."""
