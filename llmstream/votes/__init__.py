"""What most votes say: consensus, when to stop asking, criteria, agreement. Pure."""
