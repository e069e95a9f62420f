"""Call detail records: a pure fold over the events of a call."""
