"""Is everything there? `python -m millpond.demo.verification DATABASE LEDGER...`, in a process of its own.

The judge is Python's own sqlite3, whichever side wrote the file, and it prints one JSON object: `Verified`.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from millpond.demo.ledger import read_records
from millpond.demo.outcome import Verified

__all__ = ["main", "verify"]

_SUMS = """SELECT
    (SELECT count(*) FROM message), (SELECT coalesce(sum(messages), 0) FROM user),
    (SELECT coalesce(sum(messages), 0) FROM counters),
    (SELECT coalesce(sum(xp), 0) FROM message), (SELECT coalesce(sum(xp), 0) FROM user),
    (SELECT coalesce(sum(xp), 0) FROM counters), (SELECT coalesce(sum(xp), 0) FROM leaderboard)"""

_UNEVEN = """SELECT
    (SELECT count(*) FROM user LEFT JOIN
        (SELECT user_id, count(*) AS n, sum(xp) AS xp FROM message GROUP BY user_id) AS m ON m.user_id = user.id
        WHERE user.messages IS NOT m.n OR user.xp IS NOT m.xp)
  + (SELECT count(*) FROM counters LEFT JOIN
        (SELECT guild_id, count(*) AS n, sum(xp) AS xp FROM message GROUP BY guild_id) AS m USING (guild_id)
        WHERE counters.messages IS NOT coalesce(m.n, 0) OR counters.xp IS NOT coalesce(m.xp, 0))
  + (SELECT count(*) FROM leaderboard LEFT JOIN
        (SELECT guild_id, user_id, sum(xp) AS xp FROM message GROUP BY 1, 2) AS m USING (guild_id, user_id)
        WHERE leaderboard.xp IS NOT m.xp)"""


def verify(database: Path, ledgers: Sequence[Path]) -> Verified:
    """Hold what was acknowledged against what is in the file, and the file against itself."""
    acknowledged: set[int] = set()
    failed: set[int] = set()
    answered = 0
    for path in ledgers:
        for record in read_records(path):
            answered += record.acknowledged
            (acknowledged if record.acknowledged else failed).add(record.event)
    with closing(sqlite3.connect(database)) as file:
        file.execute("PRAGMA query_only = 1")
        stored = {event for (event,) in file.execute("SELECT id FROM message")}
        messages, by_users, by_guilds, xp, *xp_elsewhere = file.execute(_SUMS).fetchone()
        (uneven,) = file.execute(_UNEVEN).fetchone()
        integrity = "; ".join(line for (line,) in file.execute("PRAGMA integrity_check(5)"))
    return Verified(
        acknowledged=answered,
        found=len(acknowledged & stored),
        lost=answered - len(acknowledged & stored),
        failed_but_stored=len(failed & stored),
        messages=messages,
        xp=xp,
        sums_agree=messages == by_users == by_guilds and all(other == xp for other in xp_elsewhere),
        uneven_rows=uneven,
        integrity_check=integrity,
    )


def main() -> int:
    database, *ledgers = (Path(name) for name in sys.argv[1:])
    print(json.dumps(asdict(verify(database, ledgers))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
