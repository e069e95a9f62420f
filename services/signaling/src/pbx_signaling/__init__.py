"""The B2BUA: SIP on its sockets, two legs per call, call logic as a pure machine between them."""
