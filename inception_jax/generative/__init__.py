"""Evaluation of generative models: FID and its kin, with the network of 2015-12-05."""
