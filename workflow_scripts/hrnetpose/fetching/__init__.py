"""Files from elsewhere: downloads that survive interruptions, hashes, calibration images."""
