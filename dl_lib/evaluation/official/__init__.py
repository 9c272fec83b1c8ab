"""Official benchmark scores and submission archives."""
