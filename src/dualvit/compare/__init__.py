"""Comparing models: how well they learn at an equal budget."""
