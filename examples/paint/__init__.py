"""A drawn map becomes a landscape: a small GauGAN, as a library and behind the server."""

NEEDS = ""
