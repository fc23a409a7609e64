"""Shaped MLPs with depth proportional to width."""
