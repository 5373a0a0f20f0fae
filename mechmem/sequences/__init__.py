"""Memorized text: which training sequences a network continues, and what edits take from it."""
