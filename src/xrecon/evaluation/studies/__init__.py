"""Whole experiments: does a pneumothorax survive, and what do disturbed films cost."""
