"""What the features are judged on: recognition, retrieval, segmentation, by stated protocols."""
