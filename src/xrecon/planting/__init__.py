"""Pneumothoraces and what resembles them, planted in healthy chest CTs with their truth."""
