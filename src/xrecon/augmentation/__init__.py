"""Online augmentation: from one prepared case and a seed to a new patient with new films."""
