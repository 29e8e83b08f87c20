"""Log files, followed: found, told apart, read in chunks of whole lines, and read on after rotations and restarts."""
