"""Parameterisations side by side: how hyperparameters transfer over width and depth."""
