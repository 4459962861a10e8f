"""The parts of a dual vision transformer, in the order in which data meets them."""
