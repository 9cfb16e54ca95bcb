"""From one model file, whose kind is told, to what can be called: a module for each kind. See `weights`."""
