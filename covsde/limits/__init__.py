"""Equations of the limits, one file per family; nothing here steps, samples or plots."""
