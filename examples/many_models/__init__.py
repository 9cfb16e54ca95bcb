"""A model for each of several shops, served from one repository while a new version takes over."""

NEEDS = ""
