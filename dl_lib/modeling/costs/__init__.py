"""Costs in multiply-adds: counters per module type, static costs, and cost tables of routed networks."""
