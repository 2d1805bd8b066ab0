"""Weights, images and annotations, and the crops that engines take."""
