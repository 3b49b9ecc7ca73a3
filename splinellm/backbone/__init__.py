"""Everything that knows transformers: loading, architectures, recording hooks."""
