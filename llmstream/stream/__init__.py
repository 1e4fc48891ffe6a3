"""The flow of a run: reading, order, signals, the books at the end, with calls and without; placing answers."""
