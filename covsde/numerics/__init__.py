"""Small linear algebra, random numbers and types, which know nothing of the rest."""
