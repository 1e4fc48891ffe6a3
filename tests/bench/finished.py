"""Add lines to a done-file until it has so many, each like the first but for its key: finished.py FILE LINES."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmstream.done.line import seal  # after the path is set


def main(path: str, lines: int) -> None:
    with open(path, "rb+") as file:
        fields = json.loads(file.readline())
        del fields["crc"]  # seal makes a new one
        file.seek(0, 2)
        for number in range(1, lines):
            fields["key"] = f"{number:032x}"
            file.write(seal(fields))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
