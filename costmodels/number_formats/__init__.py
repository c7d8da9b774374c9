"""Number formats: bits of an element, blocks that share a scale, bytes of a tensor, error."""
