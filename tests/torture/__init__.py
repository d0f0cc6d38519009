"""Attacks on what Millpond promises: kill -9, power cuts, faults, cancels, races, hostile files.

`make torture` runs all of it within a time, `python -m tests.torture PART --case N` one case again. Each part is a
file in `parts/`; its pytest file beside this one runs a few of its cases in `make test`.
"""
