"""Steps that move the patient: pose, size, smooth deformation."""
