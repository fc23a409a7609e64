"""Solvable scaling laws: linear students on random features of Gaussian inputs, with and without feature learning."""
