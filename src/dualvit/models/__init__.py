"""Whole networks, one file a family: config table, model, timm entry points."""
