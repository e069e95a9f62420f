"""The two-leg call: pure call logic that sees call-control events and never a SIP message."""
