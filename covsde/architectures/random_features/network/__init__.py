"""Finite models, drawn and trained: the check of the theory."""
