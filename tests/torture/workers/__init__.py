"""Programs that run in processes of their own: python -m tests.torture.workers.NAME."""
