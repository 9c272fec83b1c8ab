"""Models for deployment."""
