"""Statistical priors of the chest that need no network: atlas, linear modes, deformation, and a bank of cases."""
