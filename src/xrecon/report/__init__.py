"""Figures and one self-contained HTML page of a reconstruction. Knows no network."""
