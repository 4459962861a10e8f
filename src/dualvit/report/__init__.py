"""What a command ends in: one HTML page that needs no other file, with the best and the worst predictions on it."""
