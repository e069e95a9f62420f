"""Call control: what a call does, without SIP, clock or chance."""
