# In Slicer: set up compilers, describe the extension to others, package it. Here nothing of it is needed.
