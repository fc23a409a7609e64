"""Shaped transformers."""
