"""What the README shows of what was measured, and the commands that measure it again."""
