"""Where `nnUNetv2_train` finds our trainers by name: it imports every file of the folder that nnUNet_extTrainer names.

nnUNet_extTrainer=.../maxquery_training/nnunet_trainers nnUNetv2_train 701 3d_fullres 0 -p MaxQueryPlans \\
    -tr BackboneTrainer     # then the same with -tr MaxQueryTrainer
"""

from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer

__all__ = ["BackboneTrainer", "MaxQueryTrainer"]
