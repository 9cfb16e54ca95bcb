"""A tiny model that tells stories, one character at a time: trained in seconds, streamed as text, lines and chat."""
