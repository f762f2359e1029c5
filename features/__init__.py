"""What we know: events, the feature spec, window state, vectors, and the store that keeps them."""
