"""Application Auto Scaling that acts on variants' instances and on inference components' copies."""
