"""What the whole agent costs, from outside."""
