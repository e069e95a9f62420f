"""Transaction users: what handles the requests of a method."""
