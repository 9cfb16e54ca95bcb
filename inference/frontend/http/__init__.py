"""HTTP/1.1 on a socket: requests in, responses out, and what the paths do."""
