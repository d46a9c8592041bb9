"""Guards on what comes in: file sizes and kinds, archives, arrays, grids and HU.

The caps are far above any real chest CT or film and far below what exhausts a workstation's memory, so that a damaged
or hostile header is refused before anything is allocated. Every guard raises `InputError` with the file's name, what
is wrong and what to do.
"""
