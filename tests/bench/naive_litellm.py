"""The same as naive.py with litellm's acompletion, for where litellm is installed.

python tests/bench/naive_litellm.py FILE IN_FLIGHT PROMPT
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from litellm import acompletion


async def main(path: str, in_flight: int, prompt: str) -> None:
    semaphore = asyncio.Semaphore(in_flight)

    async def ask(record: dict) -> None:
        async with semaphore:
            completion = await acompletion(
                model="openai/" + os.environ["LLMSTREAM_MODEL"],
                messages=[{"role": "user", "content": prompt + record["text"]}],
                api_base=os.environ["OPENAI_BASE_URL"],
                api_key=os.environ["OPENAI_API_KEY"],
            )
        record["output"] = completion.choices[0].message.content
        sys.stdout.write(json.dumps(record) + "\n")

    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    await asyncio.gather(*(ask(record) for record in records))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
