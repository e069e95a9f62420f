"""Events, CDRs and deliveries in SQL."""
