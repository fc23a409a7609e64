"""Gradient descent on networks that are known only through the vectors they meet: shared by all trained limits."""
