"""The practical limit in Python: aiohttp, orjson, workers over one iterator, an answer appended to a journal unsynced.

python tests/bench/bare.py FILE IN_FLIGHT PROMPT; nothing is checked, tried again or durable.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

import aiohttp
import orjson

URL = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
JOURNAL = "journal"
MODEL = os.environ["LLMSTREAM_MODEL"]
HEADERS = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "Content-Type": "application/json"}


async def worker(lines: Iterator[bytes], session: aiohttp.ClientSession, prompt: str, journal: BinaryIO) -> None:
    for line in lines:
        record = orjson.loads(line)
        body = {"messages": [{"role": "user", "content": prompt + record["text"]}], "model": MODEL}
        async with session.post(URL, data=orjson.dumps(body)) as reply:
            reply.raise_for_status()
            answer = orjson.loads(await reply.read())["choices"][0]["message"]["content"]
        journal.write(orjson.dumps({"id": record["id"], "answer": answer}) + b"\n")
        record["output"] = answer
        sys.stdout.buffer.write(orjson.dumps(record) + b"\n")


async def main(path: str, in_flight: int, prompt: str) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=HEADERS, timeout=aiohttp.ClientTimeout(total=60)
    )
    # Unbuffered: what was paid for is in the file, though not on the disk.
    with open(path, "rb") as lines, open(JOURNAL, "ab", buffering=0) as kept:
        async with session:
            await asyncio.gather(*(worker(lines, session, prompt, kept) for _ in range(in_flight)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
