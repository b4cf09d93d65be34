"""Networks: autoencoders and their ensembles, and ASR-Net."""
