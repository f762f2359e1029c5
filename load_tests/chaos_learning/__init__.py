"""The learner, killed on purpose."""
