"""Candidates for free pleural air: grown, parted and measured; `judge.py` decides what each one is."""
