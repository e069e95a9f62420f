"""What steps of the core ask of the world, carried out in order."""
