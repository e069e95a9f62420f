"""Media as signaling sees it: endpoints read from SDP, slots of relays, and the SDP rewritten between them."""
