"""Training recipes: classification on Lightning. Detection trains through `dualvit.yolo`."""
