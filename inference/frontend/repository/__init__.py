"""The frontend's side of a model repository: which revision answers a request, what is on disk and in memory."""
