"""The API in front of an endpoint: what a request carries through it, and the same as resources."""
