"""Transform jobs that start by themselves: what a job is told, the two state machines, and what sets them off."""
