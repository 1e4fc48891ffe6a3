"""The simulated endpoint: HTTP, answers, faults."""
