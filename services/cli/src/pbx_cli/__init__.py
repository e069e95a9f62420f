"""sip-pbx: starts all services on one machine, and speaks to a running one."""
