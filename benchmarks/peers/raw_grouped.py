"""apsw in a plain loop, 25 writes to a COMMIT: what group commit could reach without anyone to wait for."""

from benchmarks.peers.raw import Raw


def make() -> Raw:
    return Raw(group=25)
