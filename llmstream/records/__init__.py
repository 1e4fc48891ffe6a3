"""Values, exact JSON, lines, equality, schemas, tables: bytes to records and back. Knows nothing else."""
