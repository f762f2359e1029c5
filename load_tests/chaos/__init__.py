"""The lab: the whole path, broken on purpose."""
