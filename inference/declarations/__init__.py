"""What a manifest declares, so that a model needs no code around it: read and checked, without torch."""
