"""Which files of a model directory could be the model: told by their content, without torch, and without reading on
what a header says that the file cannot hold."""
