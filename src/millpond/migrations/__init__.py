"""Numbered changes of a schema, each applied once: what `db.migrate(folder)` does."""
