"""The words, names and sentences of a text, of which answers are made."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from functools import lru_cache

EDGES = string.punctuation + "“”„‘’«»‹›…–—¿¡、。，：；！？「」『』（）"
_EDGES_OF_SENTENCES = " \t\n\"'“”‘’«»"
_CAPITAL = "".join(filter(str.isupper, map(chr, range(0x2000))))  # of every alphabet; re has no name for it
_NAME = rf"[{_CAPITAL}]\w*(?:['’-]\w+)*"
_RUN = re.compile(rf"(?<!\w){_NAME}(?: {_NAME}){{0,3}}")
_COMMON = re.compile(  # what begins sentences, and no names
    r"an?|and|as|at|but|by|for|from|he|her|his|how|i|if|in|is|it|its|on|she|so|that|the|they|this|to|was|we|wh\w+|with|you",
    re.IGNORECASE,
)


@lru_cache(64)
def words(text: str) -> tuple[str, ...]:
    return tuple(text.split()) or ("nothing",)


@lru_cache(64)
def sentences(text: str) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"(?<=[.!?…])\s+|(?<=[。！？])", text))) or ("Nothing.",)


@lru_cache(64)
def names(text: str) -> tuple[str, ...]:
    """Runs of capitalised words, at most four; in a script without capitals the words themselves."""
    bare_words = (word.strip(EDGES)[:20] for word in words(text))
    return _distinct(_capitalised(text)) or _distinct(bare_words) or ("Nothing",)


def _distinct(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, dict.fromkeys(found)))


def _capitalised(text: str) -> list[str]:
    runs = [(run[0].split(" "), run.start()) for run in _RUN.finditer(text)]
    sure = [run for run, start in runs if len(run) > 1 or not _begins_sentence(text, start)]
    return [" ".join(run[1:] if _COMMON.fullmatch(run[0]) else run) for run in sure or [run for run, _ in runs]]


def _begins_sentence(text: str, start: int) -> bool:
    """A capital there says nothing."""
    before = text[max(0, start - 4) : start].rstrip(_EDGES_OF_SENTENCES)
    return not before or before[-1] in ".!?…:"


def stands_in(word: str, text: str) -> bool:
    word, text = word.casefold(), _folded(text)
    return word in text and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


@lru_cache(64)
def _folded(text: str) -> str:
    return text.casefold()
