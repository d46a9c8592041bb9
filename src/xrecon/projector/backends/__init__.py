"""Interchangeable ways to compute the projector's line integrals: plain torch, matrix products, compiled kernels.

`registry.BACKENDS` lists them; `backend.Backend` says what each offers. `reference` is the readable oracle of the two
others. `lines` and `bundles` turn a view into rays; `kernels`, `level` and `simd` are what numba compiles.
"""
