"""Models behind HTTP: one process that talks to clients, and worker processes that decode pictures and predict."""
