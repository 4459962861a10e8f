"""Training recipes on Lightning: classification, detection, instance and semantic segmentation."""
