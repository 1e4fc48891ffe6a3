"""Values, exact JSON, lines, formats of files, equality, schemas: bytes to records and back. Knows nothing else."""
