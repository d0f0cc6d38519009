"""One attack per file: the folder is the registry."""
