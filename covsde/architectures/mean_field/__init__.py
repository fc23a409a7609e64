"""Mean-field networks of fixed depth: infinitely wide, in the scaling in which every layer learns."""
