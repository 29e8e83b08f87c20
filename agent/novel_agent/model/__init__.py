"""The nouns: metrics, batches, resources. No input or output, no clock."""
