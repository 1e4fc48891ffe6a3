"""Records that belong together made into one: groups, folds, trees of folds. Pure."""
