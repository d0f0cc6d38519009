"""Tests that take long and have no other home."""
