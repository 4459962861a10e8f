"""Data: the embedded set of handwritten digits."""
