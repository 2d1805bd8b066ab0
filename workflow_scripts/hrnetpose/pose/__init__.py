"""From heatmaps to keypoints and their accuracy."""
