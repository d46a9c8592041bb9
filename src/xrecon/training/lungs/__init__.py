"""Training of the lung network, which finds right and left hemithorax for PTX-Seg (`xrecon train lungs`)."""
