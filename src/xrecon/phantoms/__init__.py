"""Artificial chests whose truth is known exactly."""
