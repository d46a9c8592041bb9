"""The mechanisms of planting: each draws the lung, air and fluid of one side in its own way."""
