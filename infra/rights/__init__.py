"""Who may do what: the role of the containers, policies for callers, and the wildcards that we accept."""
