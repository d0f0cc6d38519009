"""What a statement is: its kind, its way, what it costs. Decides only; knows no SQLite."""
