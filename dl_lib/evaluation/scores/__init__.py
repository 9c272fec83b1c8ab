"""How good a segmentation is and what it cost: counts, scores from counts, sums over processes."""
