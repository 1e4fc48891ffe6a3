"""Done-files and logs read back: stages, report, page, metrics; and a pipe that is watched."""
