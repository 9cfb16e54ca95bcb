"""Speech detection over the bidirectional stream: 16 kHz audio in, events out as speech begins and ends."""
