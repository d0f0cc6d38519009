"""The side of the crash harness that stays alive: what is planned, what was acknowledged, what must be in the file.

    plan    a life of a file, drawn from a seed: which processes, and where they are killed (pure)
    tokens  the rows that stand for one write (pure; the workers use it too)
    ledger  what each write may have left, by what its process said before it died; the verdict (pure)
    zygote  a process that has imported Millpond and forks the workers
    life    runs a plan: starts, kills, checks

The other side, that is killed, is `workers/crash*.py`.
"""
