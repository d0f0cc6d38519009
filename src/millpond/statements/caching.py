"""May a statement's result be kept, and what makes it stale?"""

from __future__ import annotations

from collections.abc import Collection

from millpond.statements.facts import Action

__all__ = ["DETERMINISTIC", "may_be_kept"]

_NAMES = """
-> ->> abs acos acosh asin asinh atan atan2 atanh ceil ceiling char coalesce concat concat_ws cos cosh degrees exp
floor format glob hex if ifnull iif instr json json_array json_array_insert json_array_length json_extract
json_group_array json_group_object json_insert json_object json_patch json_pretty json_quote json_remove
json_replace json_set json_type json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract jsonb_group_array
jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set length like likelihood
likely ln log log10 log2 lower ltrim max min mod nullif octet_length pi pow power printf quote radians replace round
rtrim sign sin sinh sqrt substr substring tan tanh trim trunc typeof unhex unicode unlikely upper zeroblob avg count
cume_dist dense_rank first_value group_concat lag last_value lead median nth_value ntile percent_rank percentile
percentile_cont percentile_disc rank row_number string_agg sum total
"""
DETERMINISTIC = frozenset(_NAMES.split())
"""SQLite's functions that answer the same for the same arguments. Those of dates are not among them: 'now' may be
an argument. Source: pragma_function_list (flag SQLITE_DETERMINISTIC), and its aggregates and windows."""

_ELSEWHERE = frozenset({"VOpen", "VFilter", "Vacuum", "VUpdate"})
"""Instructions of virtual tables: what they answer may come from anywhere."""


def may_be_kept(actions: Collection[Action], opcodes: Collection[str], *, temporary: bool) -> bool:
    """Is the result of this read the same as long as the tables that it reads are?

    actions, opcodes: what SQLite says of it. Only ordinary tables of the file itself; SQLite's own tables
    change without being named.
    """
    if temporary or _ELSEWHERE & set(opcodes):
        return False
    reads = False
    for action in actions:
        match action.name:
            case "READ":
                # A table of which no column is read (count(*)) comes without its database.
                if action.database not in ("main", None) or (action.third or "").startswith(("sqlite_", "pragma_")):
                    return False
                reads = True
            case "FUNCTION":
                if (action.fourth or "").lower() not in DETERMINISTIC:
                    return False
            case "SELECT" | "RECURSIVE":
                continue
            case _:
                return False
    return reads
