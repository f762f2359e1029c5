"""What moves: featurize, learn, replay, generate, and the topics between them."""
