"""What happened in a run: events, log, summary, labels, progress."""
