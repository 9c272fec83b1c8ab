"""The commands, one file each; `tools/` holds thin doors to them."""
