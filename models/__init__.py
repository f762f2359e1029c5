"""What we believe: learners, weights, the registry, scores, policy and decisions."""
