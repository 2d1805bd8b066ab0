"""The embedded sample: drawn people with COCO keypoints, the same ones every time.

An image is a cluttered scene with one to five people.  A person is a three-dimensional skeleton,
posed, seen from any side and projected; its flesh and clothes are convex hulls of spheres (a
forearm is the hull of an elbow and a wrist sphere), painted from far to near.  Beside the image
an owner map records which part of which person painted each pixel last: boxes, areas and the
visibility of the keypoints are read from it, so occlusion is labelled as it is drawn.

The drawing prefers neither side of the body.  Left and right follow from what a viewer can see (a
face, knees, feet or a back), so a mirrored image is as likely as the original and a flip test is
fair.

Axes of the body: x to the person's left, y up, z forward.  Lengths are in body heights, angles in
degrees.  Axes of the view: x to the right, y up, z towards the viewer.
"""
