"""Other systems on the same log: scripts of ours, each run in an environment of its own."""
