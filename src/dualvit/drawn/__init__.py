"""The pictures that the package draws itself: digits for the demo and tutorials, varied scenes, and formulas."""
