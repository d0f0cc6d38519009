"""Millpond beside its peers: one file per question, all systems in one run, interleaved."""
