"""Finite networks: Equinox modules with real weights, and samplers exact in law without them."""
