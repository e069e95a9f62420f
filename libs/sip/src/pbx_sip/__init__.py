"""Sans-IO SIP: messages, transactions, dialogs, digest and SDP. No socket, no clock, no task."""
