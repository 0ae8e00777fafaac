"""The MaxQuery engine: a CT in, tumours by type and an out-of-distribution heatmap out.

Yuan et al., "Devil is in the Queries: Advancing Mask Transformers for Real-world Medical Image
Segmentation and Out-of-Distribution Localization", CVPR 2023. Equation numbers in this package are
the paper's. Nothing here imports Slicer, Qt or nnU-Net.
"""

__version__ = "0.1.0"
