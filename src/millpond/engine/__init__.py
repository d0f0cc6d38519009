"""Doing: the databases that Millpond runs."""
