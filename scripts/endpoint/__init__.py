"""What a published repository holds beside the model, so that an Inference Endpoint of the Hub can serve it."""
