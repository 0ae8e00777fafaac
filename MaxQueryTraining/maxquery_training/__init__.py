"""Training, calibrating and evaluating MaxQuery models, without a window."""
