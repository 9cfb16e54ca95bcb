"""What all state machines have: their language, their role and log, what starts them, how they say that they ended."""
