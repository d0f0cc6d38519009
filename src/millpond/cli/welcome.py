"""What `millpond` alone prints: twelve lines."""

from __future__ import annotations

__all__ = ["WELCOME"]

WELCOME = """\
Millpond: SQLite for bots, agents and services that do many things at once.
It ends `database is locked`: writes take turns in one fair queue, reads go
round it, and what is acknowledged is on disk. The file stays plain SQLite.

Try now:
  millpond demo               a chat bot before and after, in 20 seconds
  millpond demo --tuned       against WAL, a long timeout, BEGIN IMMEDIATE
  millpond demo --help        your own chat log, several processes, JSON

In your code:   async with millpond.Database("bot.db") as db: ...
Tab completion: millpond completion bash | zsh | fish
All commands:   millpond --help
"""
