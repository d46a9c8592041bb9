"""Fixtures of the priors tests."""

from __future__ import annotations

from support.prior_fixtures import asset, cases, cpu, one_thread

__all__ = ["asset", "cases", "cpu", "one_thread"]
