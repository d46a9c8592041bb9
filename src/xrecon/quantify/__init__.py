"""What a segmentation says in numbers: occupancy, depths, indices, location, and the findings document."""
