"""What can be wrong with a configuration, one file for each part of it."""
