"""The multi-angle projection of ProST and the loss that X-Recon trains with."""
