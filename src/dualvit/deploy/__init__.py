"""Networks as files that other programs run: runtimes, export, and what a file answers."""
