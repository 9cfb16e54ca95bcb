"""`tidegate init`: a project of one's own to begin with, a folder in which every file runs."""
