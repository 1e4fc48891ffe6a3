"""The kinds of JSON values, and which of two stays where they meet: an object before a list before a scalar."""

from __future__ import annotations

from llmstream.records import exact

KIND_OF = {
    type(None): "null",
    bool: "boolean",
    **dict.fromkeys((int, float, exact.Wide, exact.WideInt), "number"),
    str: "string",
    list: "list",
    dict: "object",
}
NULL, SCALAR, LIST, OBJECT = range(4)
RANK_OF = {made: {"null": NULL, "list": LIST, "object": OBJECT}.get(kind, SCALAR) for made, kind in KIND_OF.items()}
SCALARS = frozenset(made for made, rank in RANK_OF.items() if rank == SCALAR)
