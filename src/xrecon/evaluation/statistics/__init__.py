"""Agreement, intervals and tests over few patients."""
