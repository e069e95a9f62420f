"""The PBX as a user agent: SIP on one side, call control on the other."""
