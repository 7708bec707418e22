"""Text-guided semantic segmentation at phone size: data, training, prediction, export, serving, publishing."""
