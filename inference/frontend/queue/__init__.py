"""Requests that wait for a worker, and the rules by which they are admitted, batched and retried."""
