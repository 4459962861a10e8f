"""A web page on this machine: what a model finds in a picture, what it looked at, and two models side by side."""
