"""Static backbones: ReXNet and torchvision's networks."""
