"""An HTTP server with batching, bounds and metrics."""
