"""Featurize workers, broken on purpose."""
