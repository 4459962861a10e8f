"""The pictures of digits that the demo, the tutorials and `dualvit data digits` draw."""
