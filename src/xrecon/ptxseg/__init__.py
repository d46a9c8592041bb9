"""PTX-Seg: lungs, pneumothorax and what resembles it in a chest CT, without training on a pneumothorax."""
