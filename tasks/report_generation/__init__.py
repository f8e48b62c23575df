"""Task: report generation. `train` fits projector and language model on one data set, `generate` writes reports for any."""
