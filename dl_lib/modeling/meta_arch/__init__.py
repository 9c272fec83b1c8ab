"""Meta-architectures: complete segmentation models of backbone, head and losses."""
