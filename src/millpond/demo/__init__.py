"""The demonstration: one chat service, the same events, before and after.

    conduct --> prepares the files, starts one side after the other, listens, has both verified
       |-- side (a process of its own): feed --> sqlite3_side (threads) or millpond_side (asyncio) --> ledger
       `-- verification (a process of its own): ledger against the file, by Python's own sqlite3

Both sides take the same seeded events, send the same SQL (`schema`), are timed by the same code (`ledger`) and
are judged by the same verification. Pure: `chat`, `generated`, `schema`, `outcome`.
"""
