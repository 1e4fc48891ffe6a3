"""A program that runs another one where little can be written."""

from __future__ import annotations

LITTLE_ROOM = """
import os, resource, sys
room = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Python itself takes what it could write of a module for the whole
os.execv(sys.argv[2], sys.argv[2:])
"""
