"""The simulated endpoint: its server and HTTP, its answers, its limits, faults and log."""
