"""What `save_model` is told about inputs and answers, so that the model needs no code for them."""
