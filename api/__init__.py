"""What answers: decisions over HTTP and over a stream."""
