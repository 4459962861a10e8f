"""Any timm model under a detector: its maps, its layers, and its memory in training."""
