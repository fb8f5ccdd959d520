"""What is fast, and how fast: ratios measured in one run."""
