"""What a model's requirements.txt names, installed into a layer of its own."""
