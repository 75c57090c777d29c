"""How strong the change of a photo may be."""

STRENGTHS = {"gentle": 4.0, "medium": 8.0, "strong": 16.0}
"""Largest change, gray levels, by name; see docs/PHOTOS.md for what they cost and buy."""
