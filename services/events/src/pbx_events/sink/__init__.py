"""Sinks: where CDRs go besides the table, for billing systems that read files or take batches over HTTP."""
