"""Answers of a model to all pictures of a place, exactly one row for each, whatever is killed on the way."""
