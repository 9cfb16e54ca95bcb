"""From an approval to the endpoint: the state machine that rolls a version out."""
