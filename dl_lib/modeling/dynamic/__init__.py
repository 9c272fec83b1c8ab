"""Routed network: lattice, cells, gates, routing, and dense and sparse execution (arXiv 2003.10401)."""
