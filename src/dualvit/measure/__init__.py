"""Measuring models: their cost, and how well they learn at an equal budget."""
