"""The command line. A command is a file in `commands/`: parse, call, print.

`commands/NAME.py` has a docstring (its first line is the summary, the rest the description), `EXAMPLES`,
`add_arguments(parser)` and `run(args) -> int`; it imports what is heavy inside `run`.
Results go to stdout; progress and notes to stderr.
"""
