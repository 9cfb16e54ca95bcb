"""What a manifest declares, done: bodies to what a model takes, and predictions to answers."""
