"""What happens to data between an input and an output, one verb a module."""
