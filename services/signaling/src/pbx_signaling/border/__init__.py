"""What crosses from one leg to the other, and what the outside may claim."""
