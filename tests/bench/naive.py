"""The script that most people write: AsyncOpenAI, a semaphore, gather over everything.

python tests/bench/naive.py FILE IN_FLIGHT PROMPT
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from openai import AsyncOpenAI


async def main(path: str, in_flight: int, prompt: str) -> None:
    client = AsyncOpenAI()
    semaphore = asyncio.Semaphore(in_flight)

    async def ask(record: dict) -> None:
        async with semaphore:
            completion = await client.chat.completions.create(
                model=os.environ["LLMSTREAM_MODEL"],
                messages=[{"role": "user", "content": prompt + record["text"]}],
            )
        record["output"] = completion.choices[0].message.content
        sys.stdout.write(json.dumps(record) + "\n")

    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    await asyncio.gather(*(ask(record) for record in records))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
