"""Sections of docs/validation.md: each module has `section(scale)`, which returns Markdown lines; scale 10 is quick."""
