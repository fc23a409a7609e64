"""Depth-scaled ResNets."""
