"""The done-file: its lines and keys, its index, the file itself."""
