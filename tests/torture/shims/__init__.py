"""What stands between SQLite and the disk in a torture: recorders and breakers."""
