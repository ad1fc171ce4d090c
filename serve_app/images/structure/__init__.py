"""Bounds on an image file's structure that Pillow does not set: counts of chunks, tags and scans.

A few megabytes of empty chunks, overlapping tags or repeated scans cost minutes or gigabytes in a decoder, whatever the
picture's size. Each check walks the container only, never the pixels, and lets through everything a camera, an editor
or a converter writes. What a decoder gets to see of PNG, GIF and PNM is cut down to what the pixels need, so that
it cannot read a file in another way than the check did. Knows no Pillow.
"""
