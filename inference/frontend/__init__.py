"""The HTTP side: one event loop. Never imports torch, never runs user code, never waits for anything but sockets."""
