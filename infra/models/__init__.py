"""What a container serves: archive, image and variables, and what the account knows of them."""
