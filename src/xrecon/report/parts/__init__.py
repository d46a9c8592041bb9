"""What several pages share: the page itself, tables, panels of images, plots of an evaluation."""
