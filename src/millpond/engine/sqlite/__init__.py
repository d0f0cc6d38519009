"""SQLite by apsw: connections, the writer, readers, guards. The only room that knows apsw."""
