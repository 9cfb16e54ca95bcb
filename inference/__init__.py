"""The server inside the image: HTTP in `frontend`, the model in `worker`, the frames between them in `protocol`."""
