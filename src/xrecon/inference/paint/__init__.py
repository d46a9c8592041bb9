"""An explicit pneumothorax in a reconstructed chest: surfaces fitted to the thickness maps of the films, then drawn."""
