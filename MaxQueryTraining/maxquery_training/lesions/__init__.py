"""Synthetic liver lesions, planted into real CT: appearance models, not pathology."""
