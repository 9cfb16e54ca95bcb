"""The server that runs inside the image: HTTP in `frontend`, the model in `worker`, frames between them in `protocol`."""
