"""Every picture that the package draws: boxes, masks, captions, confusion and curves, in one palette."""
