"""Deterministic equivalents of random matrices: resolvents, edges, and any function of a matrix by a contour."""
