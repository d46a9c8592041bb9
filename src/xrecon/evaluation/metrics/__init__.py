"""Metrics of a synthetic CT against the true one."""
