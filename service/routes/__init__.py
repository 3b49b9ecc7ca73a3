"""Routes: each reads a request, has it computed, and writes an answer in its API's format."""
