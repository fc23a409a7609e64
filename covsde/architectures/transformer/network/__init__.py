"""Transformers of finite width; no equation of the limit is known here."""
