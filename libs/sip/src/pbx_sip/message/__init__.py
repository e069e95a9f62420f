"""SIP messages as values: start line, headers kept raw in wire order, body as bytes."""
