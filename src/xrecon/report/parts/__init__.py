"""What several pages of the report share: figures, panels, plots and the page itself."""
